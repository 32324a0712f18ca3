"""The source for files that are on this machine already."""

from __future__ import annotations

from pathlib import Path

from wanrun.errors import InvalidRequest, ModelNotFound
from wanrun.sources.reference import locate
from wanrun.types import Progress


def fetch(reference: str, into: Path, progress: Progress) -> Path:
    """The path that ``reference`` is; nothing is copied, so ``into`` and ``progress`` go unused.

    Raises ModelNotFound when there is no such file, InvalidRequest for a reference to another machine.
    """
    kind, place = locate(reference, Path.cwd())
    if kind == "name":
        raise InvalidRequest(f"{reference}: neither a file nor a model in the store (see 'wanrun list')")
    if kind != "path":
        raise InvalidRequest(
            f"{reference}: only local files can be used by this version; download the file and give its path"
        )
    path = Path(place)
    if not path.exists():
        raise ModelNotFound(f"no such file: {path}")
    if not path.is_file():
        raise InvalidRequest(f"{path} is not a file")
    return path
