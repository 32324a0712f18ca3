"""Splits a long text at the ends of sentences, else at commas, else between words, into parts that fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

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
    part = ""
    for piece in _pieces(text, level):
        if count(part + piece) <= limit:
            part += piece
            continue
        if count(piece) <= limit:
            yield part
            part = piece
            continue
        # what does not fit by itself begins in what is left of this part
        *whole, part = _packed(part + piece, count, limit, level + 1)
        yield from whole
    if part:
        yield part


def _pieces(text: str, level: int) -> Iterator[str]:
    if level >= len(_BOUNDARIES):
        # each is one character at least, so that this ends
        half = max(1, len(text) // 2)
        yield text[:half]
        yield text[half:]
        return
    start = 0
    for match in _BOUNDARIES[level].finditer(text):
        if start < match.end() < len(text):
            yield text[start : match.end()]
            start = match.end()
    yield text[start:]
