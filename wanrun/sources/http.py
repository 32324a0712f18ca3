"""The source for ``https://…#sha256=<64 hex digits>``: files on any web server."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from wanrun.errors import InvalidRequest
from wanrun.sources.download import Remote, download
from wanrun.store.blobs import blob_path
from wanrun.store.digest import Digest
from wanrun.types import Progress

_DIGEST = re.compile(r"sha256[=:]([0-9a-fA-F]{64})")


def parse(reference: str) -> Remote:
    """The file that ``reference`` is; InvalidRequest when it is none.

    The digest may be left out over https: the bundle then records that of what came. Plain http needs it,
    except from this machine.
    """
    url, _, fragment = reference.partition("#")
    match = _DIGEST.fullmatch(fragment)
    if fragment and match is None:
        raise InvalidRequest(f"what follows # must be sha256= and 64 hex digits, not {fragment!r:.100}")
    try:
        title = unquote(urlsplit(url).path).rpartition("/")[2]
    except ValueError as error:
        raise InvalidRequest(f"not a URL: {error}") from error
    return Remote(url, digest=Digest(match[1].lower()) if match else None, title=title)


def fetch(reference: str, into: Path, progress: Progress) -> Path:
    """Brings the file into the blob folder ``into``, checked; returns the blob's path.

    Raises InvalidRequest for what is no such reference, DownloadError, StoreError.
    """
    digest, _ = download(parse(reference), into, progress)
    return blob_path(into, digest)
