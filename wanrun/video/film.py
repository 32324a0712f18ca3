"""Encodes frames as H.264 in mp4 or as VP9 in WebM, through PyAV.

PyAV is used directly rather than through imageio, whose plugin can set neither the colour description nor the
number of threads, and writes through a Python file in which the mp4 index cannot be moved to the front.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
from av.video.reformatter import (
    ColorPrimaries,
    ColorRange,
    Colorspace,
    ColorTrc,
    Interpolation,
    VideoReformatter,
)

if TYPE_CHECKING:
    from wanrun.types import Frame

#: Both encoders give other bytes with another number of threads, so that it must not follow the machine.
THREADS = 4
SCALING = (
    Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP | Interpolation.BITEXACT
)


@dataclass(frozen=True, slots=True)
class Film:
    """A container and the way to fill it."""

    container: str
    container_options: dict[str, str]
    codec: str
    codec_options: dict[str, str]
    #: Whether 4:2:0 colour can have an odd number of pixels.
    odd_sizes: bool


#: bitexact leaves dates, versions and random identifiers out of the file. With its macroblock tree x264
#: now and then makes another file of the same small frames: 17 of 600 times at 32×32, with one thread, too.
MP4 = Film(
    "mp4",
    {"movflags": "+faststart", "fflags": "+bitexact"},
    "libx264",
    {"crf": "17", "preset": "medium", "x264-params": "mbtree=0"},
    odd_sizes=False,
)
WEBM = Film(
    "webm",
    {"fflags": "+bitexact"},
    "libvpx-vp9",
    {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "3", "row-mt": "1"},
    odd_sizes=True,
)


class FilmEncoder:
    """Holds an open file and its encoder, from the first frame to ``finish`` or ``abort``.

    Colours are BT.709 in limited range and tagged so. Odd sizes are kept: VP9 can, and H.264 goes to 4:4:4,
    which desktop players show and some browsers do not; the models' own sizes are all even.
    """

    def __init__(self, film: Film, path: Path, rate: Fraction, comment: str) -> None:
        self._film = film
        self._rate = rate
        self._container = av.open(str(path), "w", format=film.container, options=dict(film.container_options))
        self._container.metadata["comment"] = comment
        self._stream: av.VideoStream | None = None
        self._reformatter = VideoReformatter()
        self._count = 0

    def write(self, frame: Frame) -> None:
        """Encode (height, width, 3) uint8; what the encoder gives back goes to the file at once."""
        if self._stream is None:
            self._stream = self._open(*frame.shape[:2])
        picture = self._reformatter.reformat(
            av.VideoFrame.from_ndarray(frame, format="rgb24"),
            format=self._stream.pix_fmt,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            dst_colorspace=Colorspace.ITU709,
            interpolation=SCALING,
            threads=1,
        )
        picture.pts, picture.time_base = self._count, 1 / self._rate
        self._count += 1
        self._container.mux(self._stream.encode(picture))

    def finish(self) -> None:
        """Flush the encoder and complete the file."""
        if self._stream is not None:
            self._container.mux(self._stream.encode(None))
        self._container.close()

    def abort(self) -> None:
        """Let go of the file, whatever state it is in."""
        self._container.close()

    def _open(self, height: int, width: int) -> av.VideoStream:
        film = self._film
        even = film.odd_sizes or (height % 2 == 0 and width % 2 == 0)
        stream = self._container.add_stream(film.codec, rate=self._rate, options=dict(film.codec_options))
        stream.height, stream.width = height, width
        stream.pix_fmt = "yuv420p" if even else "yuv444p"
        context = stream.codec_context
        context.thread_count = THREADS
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        return stream
