"""Which type each matrix of one model gets, as a file that people keep: patterns of names and their types.

base: Q4_K_S                        the type, a name of ``MIXES``, of what no pattern fits; may be left out
tensors:
  blocks.*.ffn.2.weight: Q5_K       patterns are those of the shell; the last one that fits decides
  blocks.0.self_attn.v.weight: Q6_K
about: {…}                          how the recipe was found; anything
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import yaml

from wanrun.errors import FormatError, InvalidRequest, ModelNotFound
from wanrun.gguf.types import tensor_type
from wanrun.wan.mixes import find_mix

#: Patterns of original tensor names and their types, in order.
Rules = tuple[tuple[str, str], ...]

MAX_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Recipe:
    """``base`` is a name of ``MIXES``, empty to leave it to whoever uses the recipe."""

    rules: Rules = ()
    base: str = ""
    about: Mapping[str, object] = field(default_factory=dict)


def rule(text: str) -> tuple[str, str]:
    """The pattern and the type of ``PATTERN=TYPE``; InvalidRequest when it is none."""
    pattern, mark, kind = text.rpartition("=")
    if not pattern or not mark:
        raise InvalidRequest(f"{text!r} is no rule: write PATTERN=TYPE, such as 'blocks.*.ffn.2.weight=Q6_K'")
    return pattern, _type(kind.strip())


def ruled(rules: Rules, name: str) -> str | None:
    """The type that the last fitting rule gives to the tensor, None when none fits."""
    return next((kind for pattern, kind in reversed(rules) if fnmatchcase(name, pattern)), None)


def read_recipe(path: Path) -> Recipe:
    """The recipe in a YAML file; FormatError says what is wrong with it, ModelNotFound that there is none."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise FormatError(f"{path} is larger than a recipe may be, {MAX_BYTES} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise ModelNotFound(f"the recipe {path} cannot be read: {error.strerror}") from error
    return parse_recipe(data, path)


def parse_recipe(data: bytes, path: Path | str) -> Recipe:
    """The recipe in the bytes of a YAML file; FormatError names it by ``path`` and says what is wrong."""
    try:
        content = yaml.safe_load(data)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"{path} is no YAML: {error}") from error
    if not isinstance(content, dict) or content.keys() - {"base", "tensors", "about"}:
        raise FormatError(
            f"{path} is no recipe: it must map 'tensors', and may 'base' and 'about', to values"
        )
    tensors, base, about = content.get("tensors") or {}, content.get("base") or "", content.get("about") or {}
    if not isinstance(tensors, dict) or not all(
        isinstance(part, str) for item in tensors.items() for part in item
    ):
        raise FormatError(f"{path}: 'tensors' must map patterns of names to types")
    if not isinstance(base, str) or not isinstance(about, dict):
        raise FormatError(f"{path}: 'base' must be the name of a type, and 'about' a mapping")
    try:
        if base:
            find_mix(base)
        rules = tuple((pattern, _type(kind)) for pattern, kind in tensors.items())
    except InvalidRequest as error:
        raise FormatError(f"{path}: {error}") from error
    return Recipe(rules, base, about)


def write_recipe(path: Path, recipe: Recipe) -> None:
    """Write ``recipe`` as YAML; the same recipe gives the same bytes."""
    content: dict[str, object] = {"base": recipe.base} if recipe.base else {}
    content["tensors"] = dict(recipe.rules)
    if recipe.about:
        content["about"] = dict(recipe.about)
    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110), encoding="utf-8")


def _type(kind: str) -> str:
    try:
        spec = tensor_type(kind.upper())
    except FormatError as error:
        raise InvalidRequest(str(error)) from error
    if spec.number is None:
        raise InvalidRequest(f"GGUF has no type {spec.name}")
    return spec.name
