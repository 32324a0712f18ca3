"""Splits a long text at the ends of sentences, else at commas, else between words, into parts that fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

#: Where a text may be split, best first; what ends a piece stays with it.
_BOUNDARIES = (
    re.compile(r"(?<=[.!?])\s+|(?<=[。！？；])|\n+|(?<=;)\s+"),
    re.compile(r"(?<=[,:])\s+|(?<=[，、：])|\s+(?=(?:and|while|as|then|with)\s)"),
    re.compile(r"\s+"),
)


def split(text: str, count: Callable[[str], int], limit: int) -> list[str]:
    """``text`` as parts of at most ``limit`` tokens each, as ``count`` counts them; joined they are the text.

    A part is as long as fits. A word that alone is longer is cut where it has to be.
    """
    return list(_packed(text, count, limit, 0)) or [text]


def _packed(text: str, count: Callable[[str], int], limit: int, level: int) -> Iterator[str]:
    if len(text) <= 1 or count(text) <= limit:
        if text:
            yield text
        return
    pieces = _pieces(text, level)
    part, index = "", 0
    while index < len(pieces):
        taken = _fitting(part, pieces, index, lambda longer: count(longer) <= limit)
        part += "".join(pieces[index : index + taken])
        index += taken
        if index == len(pieces):
            break
        if count(pieces[index]) <= limit:
            yield part
            part = ""
            continue
        # what does not fit by itself begins in what is left of this part
        *whole, part = _packed(part + pieces[index], count, limit, level + 1)
        yield from whole
        index += 1
    if part:
        yield part


def _fitting(part: str, pieces: Sequence[str], index: int, fits: Callable[[str], bool]) -> int:
    """How many pieces from ``index`` on fit behind ``part``, found in steps that double and then halve."""
    taken, step, growing = 0, 1, True
    while step:
        end = index + taken + step
        if end <= len(pieces) and fits(part + "".join(pieces[index:end])):
            taken += step
        else:
            growing = False
        step = step * 2 if growing else step // 2
    return taken


def _pieces(text: str, level: int) -> list[str]:
    if level >= len(_BOUNDARIES):
        return list(text)
    edges = [0]
    edges += [match.end() for match in _BOUNDARIES[level].finditer(text) if 0 < match.end() < len(text)]
    return [text[start:end] for start, end in pairwise([*edges, len(text)]) if start < end]
