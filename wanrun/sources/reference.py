"""Tells apart what a Modelfile may refer to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from wanrun.errors import InvalidRequest

Kind = Literal["path", "hub", "url", "name"]

_HUB = re.compile(r"(hf\.co|huggingface\.co)/", re.IGNORECASE)
_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_PATH = re.compile(r"[/~.]|[A-Za-z]:[\\/]|.*\\")
_FILE = re.compile(r".*\.(gguf|safetensors|sft|pth|pt|bin|ckpt)", re.IGNORECASE)


def locate(reference: str, folder: Path) -> tuple[Kind, str]:
    """What ``reference`` is, and a path made absolute from ``folder``, the Modelfile's own.

    A file that exists is a path; otherwise what looks like a path or a model file is one, and the rest are
    names of bundles, with or without a registry.
    """
    if _HUB.match(reference):
        return "hub", reference
    if _URL.match(reference):
        return "url", reference
    path = _absolute(reference, folder)
    if _is_file(path) or _PATH.match(reference) or _FILE.fullmatch(reference):
        return "path", str(path)
    return "name", reference


def _absolute(reference: str, folder: Path) -> Path:
    try:
        return folder.absolute() / Path(reference).expanduser()
    except RuntimeError as error:
        raise InvalidRequest(f"{reference}: no such user; write the path out") from error


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name longer than the system allows
        return False
