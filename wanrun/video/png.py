"""Writes frames as PNG: numbered files in a folder, or one in memory."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from PIL.PngImagePlugin import PngInfo

if TYPE_CHECKING:
    from wanrun.types import Frame


class PngEncoder:
    """Writes ``00001.png`` and on; each carries the comment, so that a single frame can tell its origin."""

    def __init__(self, folder: Path, comment: str) -> None:
        self._folder = folder
        self._count = 0
        self._info = PngInfo()
        self._info.add_itxt("Comment", comment, zip=True)

    def write(self, frame: Frame) -> None:
        """Write (height, width, 3) uint8 as the next file."""
        self._count += 1
        Image.fromarray(frame).save(self._folder / f"{self._count:05d}.png", "PNG", pnginfo=self._info)

    def finish(self) -> None:
        """Nothing is held between frames."""

    def abort(self) -> None:
        """Nothing is held between frames."""


def encode_png(frame: Frame) -> bytes:
    """(height, width, 3) uint8 as a file in memory."""
    data = BytesIO()
    Image.fromarray(frame).save(data, "PNG")
    return data.getvalue()
