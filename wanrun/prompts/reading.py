"""Reads a prompt in whichever language it is written."""

from __future__ import annotations

import re

from wanrun.prompts.chinese import read_chinese
from wanrun.prompts.english import read_english
from wanrun.prompts.structure import Structure

#: CJK ideographs, extension A and the compatibility block.
_IDEOGRAPH = re.compile("[㐀-䶿一-鿿豈-﫿]")
_LETTER = re.compile(r"[A-Za-z]+")


def read(text: str) -> Structure:
    """The structure of the prompt ``text``, which has no weights or alternatives in it any more.

    Chinese is where there are at least as many ideographs as words of Latin letters. Never raises: what is
    no prose has no parts.
    """
    return read_chinese(text) if is_chinese(text) else read_english(text)


def is_chinese(text: str) -> bool:
    """Whether the prompt is to be read, and answered, in Chinese."""
    ideographs = len(_IDEOGRAPH.findall(text))
    return ideographs > 0 and ideographs >= len(_LETTER.findall(text))
