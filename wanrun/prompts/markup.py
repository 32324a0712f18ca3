r"""Reads the weights in a prompt: ``a (red:1.3) ball``, as in ComfyUI and AUTOMATIC1111.

A weight is the number behind a colon at the end of parentheses; within others, weights multiply. Parentheses
without a number are text. A backslash makes the character behind it text: ``\( \) \[ \] \| \$ \_ \\``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from wanrun.errors import InvalidRequest

#: Above it the words say little more, and the picture breaks.
LARGEST = 5.0
SPECIAL = frozenset("()[]|$_\\")

_NUMBER = re.compile(r"\s*:\s*([+-]?(?:[0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9}))\s*")
_LONGEST_NUMBER = 32
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Weight:
    """The weight of the characters from ``start`` up to ``end``; 1 is none."""

    start: int
    end: int
    weight: float


@dataclass(frozen=True, slots=True)
class Marked:
    """A prompt without its marks, and the weights of its parts: in order, apart, none of them 1."""

    text: str
    weights: tuple[Weight, ...] = ()


def parse(text: str) -> Marked:
    """``text`` without marks; where there are weights, with its whitespace collapsed as well.

    Raises InvalidRequest for a weight that is not from 0 to 5.
    """
    pairs = _pairs(text)
    out: list[str] = []
    weights: list[float] = []
    within = [1.0]
    closing: dict[int, int] = {}
    index = 0
    while index < len(text):
        character = text[index]
        if character == "\\" and text[index + 1 : index + 2] in SPECIAL and index + 1 < len(text):
            index += 1
            character = text[index]
        elif index in pairs:
            close, number, weight = pairs[index]
            within.append(within[-1] * weight)
            closing[number] = close
            index += 1
            continue
        elif index in closing:
            within.pop()
            index = closing.pop(index) + 1
            continue
        out.append(character)
        weights.append(within[-1])
        index += 1
    if all(weight == 1 for weight in weights):
        return Marked("".join(out))
    return _runs(*_collapsed(out, weights))


def escape(text: str) -> str:
    """``text`` such that every character of it is text, whatever reads it as a prompt."""
    return "".join("\\" + character if character in SPECIAL else character for character in text)


def marked(parts: Marked) -> str:
    """The prompt that :func:`parse` reads as ``parts``."""
    out, at = [], 0
    for each in parts.weights:
        out += [
            escape(parts.text[at : each.start]),
            f"({escape(parts.text[each.start : each.end])}:{each.weight:g})",
        ]
        at = each.end
    return "".join([*out, escape(parts.text[at:])])


def _pairs(text: str) -> dict[int, tuple[int, int, float]]:
    """For each opening parenthesis of a weight: its closing one, where the number begins, and the weight."""
    found: dict[int, tuple[int, int, float]] = {}
    opened: list[int] = []
    index = 0
    while index < len(text):
        if text[index] == "\\":
            index += 1
        elif text[index] == "(":
            opened.append(index)
        elif text[index] == ")" and opened:
            start = opened.pop()
            colon = text.rfind(":", max(start, index - _LONGEST_NUMBER), index)
            while colon > start + 1 and text[colon - 1].isspace():
                colon -= 1
            match = _NUMBER.fullmatch(text, colon, index) if colon > 0 else None
            if match and text[start + 1 : colon].strip():
                found[start] = (index, colon, _weight(match[1], text[start + 1 : colon]))
        index += 1
    return found


def _weight(number: str, words: str) -> float:
    weight = float(number)
    if not 0 <= weight <= LARGEST:
        shown = words if len(words) <= 40 else words[:39] + "…"
        raise InvalidRequest(
            f"the weight of {shown!r} is {number}: weights are from 0 to {LARGEST:g}. "
            r"Write \( and \) for parentheses that are text"
        )
    return weight


def _collapsed(characters: list[str], weights: list[float]) -> tuple[list[str], list[float]]:
    """Without whitespace at the ends, and one space for each run of it."""
    out: list[str] = []
    kept: list[float] = []
    for character, weight in zip(characters, weights, strict=True):
        if not character.isspace():
            out.append(character)
            kept.append(weight)
        elif out and out[-1] != " ":
            out.append(" ")
            kept.append(1.0)
    if out and out[-1] == " ":
        del out[-1], kept[-1]
    return out, kept


def _runs(characters: list[str], weights: list[float]) -> Marked:
    found: list[Weight] = []
    for index, weight in enumerate(weights):
        if characters[index] == " ":
            # the space between two words of one weight has it too
            near = weights[index - 1], weights[index + 1]
            weight = near[0] if near[0] == near[1] else 1.0
        if weight == 1:
            continue
        if found and found[-1].end == index and found[-1].weight == weight:
            found[-1] = Weight(found[-1].start, index + 1, weight)
        else:
            found.append(Weight(index, index + 1, weight))
    return Marked("".join(characters), tuple(found))
