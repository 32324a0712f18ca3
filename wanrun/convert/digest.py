"""Says which files a conversion came from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wanrun.types import Progress

_CHUNK = 1 << 22


def sha256_of(files: Sequence[Path], progress: Progress) -> list[str]:
    """The hexadecimal digest of each file; ``progress`` counts bytes."""
    total, done, digests = sum(file.stat().st_size for file in files), 0, []
    for file in files:
        digest = hashlib.sha256()
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                done += len(chunk)
                progress("reading", done, total)
        digests.append(digest.hexdigest())
    return digests
