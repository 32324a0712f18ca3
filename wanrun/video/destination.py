"""Decides where a video goes and as what, before anything is computed for it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from wanrun.errors import InvalidRequest

FORMATS = ("mp4", "webm", "gif", "png")


@dataclass(frozen=True, slots=True)
class Destination:
    """An absolute path that can be written and the format to write."""

    path: Path
    format: str

    @property
    def folder(self) -> Path:
        """Where more than one PNG goes: the path without its extension."""
        return self.path.with_suffix("")


def destination(path: str | Path, format: str | None = None) -> Destination:
    """Check ``path`` and ``format`` now, so that a long run does not end on a mistake.

    Without ``format`` the extension decides, and mp4 where there is none. The path always ends in the
    extension of the format: it is appended where it is missing. Raises InvalidRequest for an unknown format,
    the extension of another format, or a path that cannot be written.
    """
    named = Path(path)
    if named.name in ("", "..") or "\0" in str(path):
        raise InvalidRequest(f"{str(path)!r} is not a file name")
    chosen = _format(named, format)
    target = named.absolute()  # so that no name can be taken for an option or a protocol
    if target.suffix.lower() != f".{chosen}":
        target = target.with_name(f"{target.name}.{chosen}")
    result = Destination(target, chosen)
    try:
        if chosen != "png" and named.is_dir():
            raise InvalidRequest(f"{target.parent / named.name} is a folder: name a file in it")
        _check(result)
    except OSError as error:
        raise InvalidRequest(f"cannot write {target}: {error.strerror}") from error
    return result


def _format(path: Path, format: str | None) -> str:
    extension = path.suffix.lower().removeprefix(".")
    chosen = (extension or FORMATS[0]) if format is None else format.lower()
    if chosen not in FORMATS:
        hint = f"use one of {', '.join(FORMATS)}"
        raise InvalidRequest(f"cannot write format {chosen!r} ({path.name}): {hint}")
    if extension in FORMATS and extension != chosen:
        raise InvalidRequest(
            f"{path.name} ends in .{extension} but the format is {chosen}: change one of them"
        )
    return chosen


def _check(wanted: Destination) -> None:
    path, parent = wanted.path, wanted.path.parent
    if not parent.is_dir():
        raise InvalidRequest(f"there is no folder {parent} to write {path.name} to: make it first")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InvalidRequest(f"the folder {parent} cannot be written: choose another")
    if path.exists() and not path.is_file():
        raise InvalidRequest(f"{path} exists and is not a file: choose another name")
    if wanted.format == "png" and wanted.folder.exists():
        if not wanted.folder.is_dir():
            raise InvalidRequest(
                f"{wanted.folder} exists and is not a folder, but frames would go there: rename it"
            )
        if any(wanted.folder.iterdir()):
            raise InvalidRequest(
                f"{wanted.folder} already holds files and frames would go there: choose another name"
            )
