"""Clips to write, and readers that are not ours to look at what was written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Interpolation
from numpy.typing import NDArray

Frame = NDArray[np.uint8]
#: swscale's quick path from YUV to RGB is a level too dark.
ACCURATE = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


def smooth(count: int, height: int, width: int) -> Iterator[Frame]:
    """Slow waves in three colours that drift."""
    rows, columns = np.mgrid[0:height, 0:width]
    for index in range(count):
        waves = (columns / 17 + index / 5, rows / 23 + index / 7, (rows + columns) / 31 - index / 9)
        yield np.stack([127.5 + 90 * np.sin(wave) for wave in waves], axis=-1).round().astype(np.uint8)


def flat(count: int, height: int, width: int) -> Iterator[Frame]:
    """A red block that moves over blue."""
    for index in range(count):
        frame = np.full((height, width, 3), (20, 40, 200), dtype=np.uint8)
        frame[height // 4 : height // 2, index : index + width // 3] = (230, 30, 10)
        yield frame


def decode(path: Path, container: str) -> list[Frame]:
    """All frames of a film, by PyAV."""
    with av.open(str(path), format=container) as file:
        return [
            picture.reformat(
                format="rgb24", dst_color_range=ColorRange.JPEG, interpolation=ACCURATE, threads=1
            ).to_ndarray()
            for picture in file.decode(video=0)
        ]


def psnr(one: Frame, other: Frame) -> float:
    """Peak signal-to-noise ratio in dB."""
    error = np.mean((one.astype(np.float64) - other) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))
