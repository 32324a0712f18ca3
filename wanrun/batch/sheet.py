"""Draws a batch's videos on one sheet: some frames of each under its number and prompt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from wanrun.batch.works import Work
from wanrun.errors import WanrunError
from wanrun.video.stills import strip

FRAMES, SIDE = 6, 128
#: Videos that one sheet shows; more of them nobody could see.
MOST = 200
_TITLE, _GAP, _COLUMNS = 18, 8, 2


def save_sheet(works: Sequence[Work], path: Path) -> bool:
    """Write a PNG of the first ``MOST`` of the videos that are there; whether there was any.

    A file that cannot be read has no place on it.
    """
    pictures = [
        picture
        for number, work in enumerate(works, start=1)
        if work.made and (picture := _titled(number, work)) is not None
    ][:MOST]
    if not pictures:
        return False
    columns = min(_COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    width = max(picture.width for picture in pictures) + _GAP
    heights = [
        _GAP + max(picture.height for picture in pictures[row * columns : (row + 1) * columns])
        for row in range(rows)
    ]
    whole = Image.new("RGB", (columns * width + _GAP, sum(heights) + _GAP), "white")
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        whole.paste(picture, (_GAP + column * width, _GAP + sum(heights[:row])))
    whole.save(path, optimize=True)
    return True


def _titled(number: int, work: Work) -> Image.Image | None:
    try:
        frames = strip(work.path, work.request.frames, FRAMES, SIDE)
    except WanrunError:
        return None
    picture = Image.fromarray(frames)
    titled = Image.new("RGB", (picture.width, picture.height + _TITLE), "white")
    titled.paste(picture, (0, _TITLE))
    varied = ", ".join(f"{key} {value}" for key, value in work.shot.varied.items() if key != "prompt")
    title = f"{number}. {' '.join(work.request.prompt.split())}" + (f"  [{varied}]" if varied else "")
    ImageDraw.Draw(titled).text((1, 1), title, fill=(30, 30, 30), font=ImageFont.load_default(11))
    return titled
