"""Encodes frames as an endless GIF, one at a time, through Pillow's quantiser and compressor.

Pillow's own animated GIF keeps all frames until the end, so the file around them is written here (GIF89a).
"""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import GifImagePlugin, Image

if TYPE_CHECKING:
    from wanrun.types import Frame

LOOP_FOR_EVER = b"!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"
#: Players take a shorter delay for a mistake and wait a tenth of a second.
SHORTEST_DELAY = 2
PALETTE_PIXELS = 2**13


class GifEncoder:
    """Holds an open file, from the first frame to ``finish`` or ``abort``.

    Every frame has its own 256 colours. Delays are hundredths of a second, rounded so that the clip's length
    stays right; above 50 frames a second a GIF plays slower than asked.
    """

    def __init__(self, path: Path, rate: Fraction, comment: str) -> None:
        self._rate = rate
        self._comment = comment.encode()
        self._file = path.open("wb")
        self._count = 0

    def write(self, frame: Frame) -> None:
        """Quantise and append (height, width, 3) uint8."""
        if self._count == 0:
            self._file.write(_opening(frame.shape[0], frame.shape[1], self._comment))
        image = _quantised(frame)
        duration_ms = 10 * _delay(self._count, self._rate)
        self._count += 1
        for data in GifImagePlugin.getdata(image, duration=duration_ms, include_color_table=True):
            self._file.write(data)

    def finish(self) -> None:
        """Complete the file."""
        self._file.write(b";")
        self._file.close()

    def abort(self) -> None:
        """Let go of the file, whatever state it is in."""
        self._file.close()


def _delay(index: int, rate: Fraction) -> int:
    """Hundredths of a second that frame ``index`` stays: rounded times apart, so that no error adds up."""
    return max(SHORTEST_DELAY, round(100 * (index + 1) / rate) - round(100 * index / rate))


def _quantised(frame: Frame) -> Image.Image:
    """``frame`` in the 256 colours that fit it best, dithered.

    The colours come from a grid of its pixels: the median cut of all of them takes half a second at 832×480.
    """
    height, width = frame.shape[:2]
    stride = math.isqrt(height * width // PALETTE_PIXELS) + 1
    sample = Image.fromarray(np.ascontiguousarray(frame[::stride, ::stride]))
    palette = sample.quantize(256, Image.Quantize.MEDIANCUT)
    return Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)


def _opening(height: int, width: int, comment: bytes) -> bytes:
    """Signature, screen without a global colour table, loop and comment."""
    screen = width.to_bytes(2, "little") + height.to_bytes(2, "little") + b"\x70\x00\x00"
    blocks = (comment[start : start + 255] for start in range(0, len(comment), 255))
    return (
        b"GIF89a" + screen + LOOP_FOR_EVER + b"!\xfe" + b"".join(bytes([len(b)]) + b for b in blocks) + b"\0"
    )
