"""Makes text that a model wrote safe to be part of a prompt, a terminal's line and a file."""

from __future__ import annotations

import re
import unicodedata

#: Format characters that join emoji or letters and steer nothing.
_JOINERS = "\u200c\u200d"
_SPACE = re.compile(r"\s+")


def plain(text: str, limit: int) -> str:
    """``text`` on one line without control, bidirectional and other invisible characters.

    What is longer than ``limit`` characters is cut at the last space before. Lone surrogates and private
    characters go as well.
    """
    # every whitespace first, or a tab would be dropped as a control and two words would be one
    kept = "".join(
        character
        for character in _SPACE.sub(" ", text)
        if character in _JOINERS or unicodedata.category(character)[0] != "C"
    )
    kept = _SPACE.sub(" ", kept).strip()
    if len(kept) <= limit:
        return kept
    return kept[:limit].rpartition(" ")[0] or kept[:limit]
