"""Leases: what an unfinished pull has brought already, so that the next collection of garbage spares it.

A lease is the file ``leases/<host>/<namespace>/<model>/<tag>`` with one digest on each line. It ends when the
bundle is made, or when nothing was added for a week. Losing one costs a download and nothing else, so leases
are not synced.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from wanrun.errors import InvalidRequest
from wanrun.store import manifests
from wanrun.store.digest import Digest
from wanrun.store.durable import store_errors
from wanrun.store.names import Name

#: Seconds after which what nobody went on with is let go.
ABANDONED_S = 7 * 86_400.0
_MAX_BYTES = 1 << 20


def keep(home: Path, name: Name, *digests: Digest) -> None:
    """Spares the blobs of ``digests`` for the bundle ``name`` to be. Hold the store meanwhile."""
    path = _path(home, name)
    with store_errors(f"cannot note what {name} needs"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="ascii") as file:
            file.write("".join(f"{digest}\n" for digest in digests))


def release(home: Path, name: Name) -> None:
    """Ends the lease of ``name``, if there is one."""
    with suppress(OSError):
        _path(home, name).unlink()


def kept(home: Path) -> set[Digest]:
    """Every digest of a lease that has not run out; damaged lines are passed over."""
    digests: set[Digest] = set()
    for path in _files(home):
        with suppress(OSError), path.open("rb") as file:
            for line in file.read(_MAX_BYTES).decode("ascii", "replace").splitlines():
                with suppress(InvalidRequest):
                    digests.add(Digest.parse(line))
    return digests


def expire(home: Path, older_than_s: float = ABANDONED_S) -> None:
    """Ends the leases to which nothing was added for so many seconds."""
    for path in list(_files(home)):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime >= older_than_s:
                path.unlink()


def _files(home: Path) -> Iterator[Path]:
    return (_path(home, name) for name in manifests.names(home / "leases"))


def _path(home: Path, name: Name) -> Path:
    return manifests.manifest_path(home / "leases", name)
