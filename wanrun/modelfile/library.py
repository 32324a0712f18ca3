"""The library of models that comes with wanrun: ``modelfiles/<model>/Modelfile`` and ``Modelfile.<tag>``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from wanrun.errors import InvalidRequest
from wanrun.store.names import DEFAULT_HOST, DEFAULT_NAMESPACE, DEFAULT_TAG, Name


def find(model: str, tag: str = DEFAULT_TAG) -> Path | None:
    """The Modelfile of a shipped model, or None; upper and lower case are the same."""
    wanted = Name(DEFAULT_HOST, DEFAULT_NAMESPACE, model.lower(), tag.lower())
    return next((path for name, path in _entries() if name == wanted), None)


def names() -> list[Name]:
    """Names of all shipped models, sorted."""
    return sorted(name for name, _ in _entries())


def _folder() -> Path:
    """Inside the package when it was installed, at the root of the repository in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "modelfiles"
    return installed if installed.is_dir() else package.parent / "modelfiles"


def _entries() -> Iterator[tuple[Name, Path]]:
    for path in sorted(_folder().glob("*/Modelfile*")):
        word, dot, tag = path.name.partition(".")
        if word != "Modelfile" or bool(dot) != bool(tag) or not path.is_file():
            continue
        with suppress(InvalidRequest):  # a backup or other file that is no tag
            model = path.parent.name.lower()
            yield Name(DEFAULT_HOST, DEFAULT_NAMESPACE, model, tag.lower() or DEFAULT_TAG), path
