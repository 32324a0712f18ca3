r"""Fills in what a prompt leaves to its seed: ``[red | blue]``, ``__animals__`` and ``$name``.

``[a | b]`` becomes one of its alternatives, of which one may be empty; it may hold others. ``__animals__`` is
drawn from the list of that name, anew each time; ``$name`` or ``${name}`` is the same all over a prompt, and
drawn once if its value is a list. Values may use all of this themselves. Brackets without a bar are text, and
so is whatever stands behind a backslash. The same seed makes the same choices.

A choice holds for the whole video. To change it at every step, as AUTOMATIC1111 does, blurs the alternatives
into one, and breaks what samplers and caches know of the steps before.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from wanrun.errors import InvalidRequest

#: A value to choose from, or the only one.
Words = Mapping[str, Sequence[str]]

_USE = re.compile(
    r"\$(?:\{(?P<braced>[A-Za-z]\w*)\}|(?P<name>[A-Za-z]\w*))|__(?P<list>[A-Za-z]\w*?)__", re.ASCII
)
_NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)
_DEEPEST = 16
_LONGEST = 1_000_000
_LARGEST_FILE = 4 << 20


def fill(text: str, seed: int, words: Words) -> str:
    """``text`` with every choice made; weights and escapes stay. What has none is returned as it is.

    Raises InvalidRequest for a name that ``words`` has not, for values that use each other without end, and
    for a text that grows beyond 1,000,000 characters.
    """
    return "".join(_Filling(seed, words).pieces(text, 0))


def uses_words(text: str) -> bool:
    """Whether ``text`` names a variable or a list."""
    return _USE.search(text) is not None


def load_words(folder: Path) -> dict[str, tuple[str, ...]]:
    """The lists and variables of all YAML files in ``folder``; none where there is no such folder.

    A file holds names with a text or a list of texts each, or one list, which is called as the file is.
    Raises InvalidRequest for a file that is something else.
    """
    found: dict[str, tuple[str, ...]] = {}
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        found |= _file(path)
    return found


class _Filling:
    """The choices of one prompt, made in the order in which they are met."""

    def __init__(self, seed: int, words: Words) -> None:
        self._seed, self._words = seed, words
        self._drawn = 0
        self._length = 0

    def pieces(self, text: str, depth: int) -> Iterator[str]:
        """``text`` in filled pieces."""
        if depth > _DEEPEST:
            raise InvalidRequest(f"the prompt's lists and alternatives are nested more than {_DEEPEST} deep")
        bars = _alternatives(text)
        index = start = 0
        while index < len(text):
            if text[index] == "\\":
                index += 2
                continue
            if index in bars:
                yield self._counted(text[start:index])
                edges = bars[index]
                chosen = self._draw(len(edges) - 1)
                yield from self.pieces(text[edges[chosen] + 1 : edges[chosen + 1]].strip(), depth + 1)
                index = start = edges[-1] + 1
                continue
            match = _USE.match(text, index) if text[index] in "$_" else None
            if match is None:
                index += 1
                continue
            yield self._counted(text[start:index])
            yield from self.pieces(self._value(match), depth + 1)
            index = start = match.end()
        yield self._counted(text[start:])

    def _value(self, match: re.Match[str]) -> str:
        name = match["list"] or match["braced"] or match["name"]
        values = self._words.get(name)
        if not values:
            near = difflib.get_close_matches(name, self._words, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "no YAML file in the folder words has it."
            raise InvalidRequest(f"the prompt uses {match[0]!r}: {hint} Write a backslash before it for text")
        if match["list"]:
            return values[self._draw(len(values))]
        return values[_index(f"{self._seed}${name}", len(values))]

    def _draw(self, count: int) -> int:
        self._drawn += 1
        return _index(f"{self._seed}:{self._drawn}", count)

    def _counted(self, piece: str) -> str:
        self._length += len(piece)
        if self._length > _LONGEST:
            raise InvalidRequest(f"the prompt's lists make it longer than {_LONGEST} characters")
        return piece


def _index(key: str, count: int) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % count


def _alternatives(text: str) -> dict[int, list[int]]:
    """For each opening bracket whose pair has bars: where it, its bars and its closing one are."""
    found: dict[int, list[int]] = {}
    opened: list[list[int]] = []
    index = 0
    while index < len(text):
        character = text[index]
        if character == "\\":
            index += 1
        elif character == "[":
            opened.append([index])
        elif character == "|" and opened:
            opened[-1].append(index)
        elif character == "]" and opened:
            edges = opened.pop()
            if len(edges) > 1:
                found[edges[0]] = [*edges, index]
        index += 1
    return found


def _file(path: Path) -> dict[str, tuple[str, ...]]:
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise InvalidRequest(f"{path} is larger than {_LARGEST_FILE >> 20} MiB")
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise InvalidRequest(f"{path} cannot be read: {error}") from error
    entries = {path.stem: content} if isinstance(content, list) else content
    if not isinstance(entries, dict):
        raise InvalidRequest(f"{path} must hold a list, or names with their texts or lists")
    found = {}
    for name, value in entries.items():
        texts = value if isinstance(value, list) else [value]
        plain = all(isinstance(text, str | int | float) for text in texts)
        if not isinstance(name, str) or not _NAME.fullmatch(name) or not texts or not plain:
            raise InvalidRequest(
                f"{path}: {str(name)[:60]!r} is no name of letters, digits and _ with a text or a list of "
                "texts"
            )
        found[name] = tuple(str(text) for text in texts)
    return found
