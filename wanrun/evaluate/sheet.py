"""Draws evaluated clips on one sheet: a few frames of each under its prompt and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from wanrun.video.contact import contact_sheet

if TYPE_CHECKING:
    from wanrun.types import Frame

FRAMES = 6
_TITLE, _GAP, _COLUMNS = 15, 6, 2
_GOOD, _BAD = (0, 90, 0), (170, 0, 0)


def sheet(clips: Sequence[tuple[str, Sequence[str], Sequence[Frame]]]) -> Image.Image:
    """One strip for each (prompt, names of what is wrong, frames), in two columns."""
    strips = [_strip(*clip) for clip in clips]
    columns = min(_COLUMNS, len(strips))
    width, height = max(strip.width for strip in strips) + _GAP, max(strip.height for strip in strips) + _GAP
    rows = -(-len(strips) // columns)
    whole = Image.new("RGB", (columns * width, rows * height), "white")
    for index, strip in enumerate(strips):
        column, row = divmod(index, rows)
        whole.paste(strip, (column * width, row * height))
    return whole


def _strip(prompt: str, wrong: Sequence[str], frames: Sequence[Frame]) -> Image.Image:
    chosen = [frames[index] for index in np.linspace(0, len(frames) - 1, FRAMES).round().astype(int)]
    picture = Image.fromarray(contact_sheet(chosen, FRAMES))
    strip = Image.new("RGB", (picture.width, picture.height + _TITLE), "white")
    strip.paste(picture, (0, _TITLE))
    title = f"{prompt}  [{', '.join(wrong)}]" if wrong else prompt
    draw, font = ImageDraw.Draw(strip), ImageFont.load_default(10)
    draw.text((1, 1), title, fill=_BAD if wrong else _GOOD, font=font)
    return strip
