"""The prompts that models are calibrated with."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

import yaml

from wanrun.errors import FormatError, InvalidRequest, ModelNotFound
from wanrun.gguf.header import read_header
from wanrun.types import Bundle
from wanrun.wan.detect import is_toy

#: What ships: prompts for any Wan, and those that wan-toy can read.
SETS = ("video", "toy")
MAX_BYTES = 16 << 20

Item = TypeVar("Item")


def shipped(name: str) -> list[str]:
    """The prompts of one of ``SETS``."""
    return _parse(files(__package__).joinpath(f"{name}.yaml").read_text("utf-8"), name)


def read(source: str) -> list[str]:
    """The prompts of a set that ships, or of a file: YAML, or text with one prompt a line.

    Raises ModelNotFound when there is no such file, FormatError when it holds no prompts.
    """
    if source in SETS:
        return shipped(source)
    path = Path(source)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise FormatError(f"{path} is larger than a file of prompts may be, {MAX_BYTES >> 20} MiB")
        text = path.read_text("utf-8")
    except OSError as error:
        raise ModelNotFound(
            f"the prompts {source} cannot be read ({error.strerror}); the sets are {', '.join(SETS)}"
        ) from error
    except UnicodeDecodeError as error:
        raise FormatError(f"{path} is no text: {error}") from error
    if path.suffix.lower() in (".yaml", ".yml"):
        return _parse(text, source)
    return _checked([line.strip() for line in text.splitlines() if line.strip()], source)


def default(bundle: Bundle) -> str:
    """The set that ``bundle`` can read; wan-toy, knows few words."""
    return "toy" if is_toy(read_header(next(iter(bundle.experts.values())).path)) else "video"


def spread(items: Sequence[Item], limit: int | None) -> list[Item]:
    """At most ``limit`` of them, evenly from the whole list."""
    if limit is None or limit >= len(items):
        return list(items)
    return [items[index * len(items) // limit] for index in range(limit)]


def slice_of(items: Sequence[Item], part: tuple[int, int]) -> list[Item]:
    """Part k of n, counted from 1, for machines that share the work; InvalidRequest when it is empty."""
    which, parts = part
    chosen = list(items[which - 1 :: parts]) if 0 < which <= parts else []
    if not chosen:
        raise InvalidRequest(f"there is no part {which} of {parts} in {len(items)} prompts")
    return chosen


def _parse(text: str, source: str) -> list[str]:
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise FormatError(f"{source} is no YAML: {error}") from error
    return _checked(found, source)


def _checked(found: object, source: str) -> list[str]:
    if not isinstance(found, list) or not found:
        raise FormatError(f"{source} must be a list of prompts, one text each")
    prompts = [item for item in found if isinstance(item, str) and item.strip()]
    if len(prompts) < len(found):
        raise FormatError(
            f"{source} must hold nothing but prompts; {len(found) - len(prompts)} items are none"
        )
    return prompts
