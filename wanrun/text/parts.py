"""Divides a prompt that is longer than the encoder's window into parts that are encoded one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from wanrun.prompts.clauses import split
from wanrun.text.tokenizer import MAX_TOKENS

#: What the model attends to must stay small beside the video's own tokens.
MOST_PARTS = 8


@dataclass(frozen=True, slots=True)
class Parts:
    """A prompt's parts; joined, and with what was ``cut``, they are the prompt."""

    texts: tuple[str, ...]
    cut: str = ""


def divide(text: str, count: Callable[[str], int]) -> Parts:
    """``text`` at clause boundaries, in at most eight parts; what is behind them is cut.

    ``count`` gives a text's tokens, its end-of-sequence included, of which a part has at most 512.
    """
    if len(text.encode("utf-8", "surrogatepass")) < MAX_TOKENS - 1:
        return Parts((text,))  # a token is a byte at least, and two are added
    pieces = split(text, count, MAX_TOKENS)
    return Parts(tuple(pieces[:MOST_PARTS]), "".join(pieces[MOST_PARTS:]))
