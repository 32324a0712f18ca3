"""Cleans a prompt the way Wan's official code does before it tokenises."""

from __future__ import annotations

import html
import re

import ftfy

_WHITESPACE = re.compile(r"\s+")


def clean(text: str) -> str:
    """``text`` with broken Unicode repaired, HTML entities decoded and whitespace runs collapsed.

    Entities are decoded twice because scraped captions, which the models were trained on, are often escaped
    twice. Same steps and order as ``wan/modules/tokenizers.py`` in Wan-Video/Wan2.2.
    """
    unescaped = html.unescape(html.unescape(ftfy.fix_text(text)))
    return _WHITESPACE.sub(" ", unescaped.strip()).strip()
