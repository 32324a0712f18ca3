"""Takes pictures out of a finished video: its first frame, or a sheet of frames from all of it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from io import BytesIO
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import av
from av.error import FFmpegError
from PIL import Image

from wanrun.errors import FormatError, ModelNotFound
from wanrun.video.contact import contact_sheet

if TYPE_CHECKING:
    from wanrun.types import Frame

#: Sides of a thumbnail, and of each of the pictures of a sheet, at most; and how many of those there are.
_THUMBNAIL = 512
_SPRITE = 192
SPRITES, COLUMNS = 16, 4

PictureFormat = Literal["png", "jpeg", "webp"]


def first_frame(path: Path, format: PictureFormat) -> bytes:
    """The first frame in its full size; FormatError for a file that is no video, ModelNotFound for none."""
    return _encoded(_first(path), format)


def thumbnail(path: Path) -> bytes:
    """The first frame as WebP, 512 pixels wide or high at most; raises as ``first_frame``."""
    return _encoded(_small(_first(path), _THUMBNAIL), "webp")


def spritesheet(path: Path, frames: int) -> bytes:
    """At most 16 of the ``frames`` frames, in rows of 4, as JPEG; raises as ``first_frame``."""
    return _encoded(contact_sheet(_spread(path, frames, SPRITES, _SPRITE), COLUMNS, gap=0), "jpeg")


def strip(path: Path, frames: int, count: int, side: int) -> Frame:
    """At most ``count`` of the ``frames`` frames beside each other, each within ``side`` pixels.

    Raises as ``first_frame``.
    """
    return contact_sheet(_spread(path, frames, count, side), count)


def _spread(path: Path, frames: int, count: int, side: int) -> list[Frame]:
    """At most ``count`` of the ``frames`` frames, evenly from the first to the last, small."""
    count = min(count, frames)
    wanted = {round(index * (frames - 1) / max(1, count - 1)) for index in range(count)}
    found = [_small(frame, side) for index, frame in enumerate(_frames(path)) if index in wanted]
    if not found:
        raise FormatError(f"{path.name} has no frames")
    return found


def same_frames(one: Path, other: Path) -> bool:
    """Whether two videos show the same, bit by bit; raises as ``first_frame``."""
    with closing(_frames(one)) as frames, closing(_frames(other)) as others:
        pairs = zip_longest(frames, others)
        return all(a is not None and b is not None and a.tobytes() == b.tobytes() for a, b in pairs)


def _first(path: Path) -> Frame:
    for frame in _frames(path):
        return frame
    raise FormatError(f"{path.name} has no frames")


def _frames(path: Path) -> Generator[Frame]:
    try:
        with av.open(str(path), format=path.suffix.removeprefix(".")) as container:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24")
    except FileNotFoundError as error:
        raise ModelNotFound(f"{path.name} is gone") from error
    except FFmpegError as error:
        raise FormatError(f"{path.name} cannot be read: {error.strerror}") from error


def _small(frame: Frame, side: int) -> Frame:
    import numpy as np

    image = Image.fromarray(frame)
    image.thumbnail((side, side))
    return np.asarray(image)


def _encoded(frame: Frame, format: PictureFormat) -> bytes:
    data = BytesIO()
    Image.fromarray(frame).save(data, format, quality=90)
    return data.getvalue()
