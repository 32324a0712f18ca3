"""The library of models that comes with wanrun: ``modelfiles/<model>/Modelfile`` and ``Modelfile.<tag>``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from wanrun.errors import InvalidRequest
from wanrun.store.names import DEFAULT_HOST, DEFAULT_NAMESPACE, DEFAULT_TAG, Name

_QUANT = re.compile(r"i?q([0-9]+)_(.+)|b?f(16|32)")
_SUFFIXES = ("0", "1", "k", "k_s", "k_m", "k_l")


def find(model: str, tag: str = DEFAULT_TAG) -> Path | None:
    """The Modelfile of a shipped model, or None; upper and lower case are the same."""
    wanted = Name(DEFAULT_HOST, DEFAULT_NAMESPACE, model.lower(), tag.lower())
    return next((path for name, path in _entries() if name == wanted), None)


def names() -> list[Name]:
    """Names of all shipped models, sorted."""
    return sorted(name for name, _ in _entries())


def tags(model: str) -> list[str]:
    """The tags of a shipped model: latest, then quants from the smallest to the largest, then the others."""
    return sorted((name.tag for name in names() if name.model == model.lower()), key=quant_order)


def beside(name: str) -> list[Path]:
    """The files called ``name`` that come beside the Modelfiles of shipped models, sorted."""
    return sorted(_folder().glob(f"*/{name}"))


def suggestion(model: str) -> str:
    """What to try for a model or tag that is not shipped, for people."""
    known = tags(model)
    if known:
        return f"{model} has the tags {', '.join(known)}"
    near = difflib.get_close_matches(model, sorted({name.model for name in names()}), n=1)
    return f"did you mean {near[0]!r}?" if near else "see 'wanrun list'"


def quant_order(tag: str) -> tuple[int, int, str]:
    """Sorts tags that are names of quants by size; what is none comes last, and latest first."""
    match = _QUANT.fullmatch(tag)
    if match is None:
        return (0 if tag == DEFAULT_TAG else 99), 0, tag
    suffix = match[2] or ""
    rank = _SUFFIXES.index(suffix) if suffix in _SUFFIXES else len(_SUFFIXES)
    return int(match[1] or match[3]), rank, tag


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
