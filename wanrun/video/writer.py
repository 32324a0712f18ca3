"""Writes a video frame by frame, so that it appears complete or not at all."""

from __future__ import annotations

import math
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import av
import numpy as np

from wanrun.errors import InvalidRequest, StoreError
from wanrun.video import film
from wanrun.video.destination import Destination, destination
from wanrun.video.gif import GifEncoder
from wanrun.video.png import PngEncoder
from wanrun.video.provenance import provenance_text

if TYPE_CHECKING:
    from wanrun.types import Frame

FPS_LIMITS = (0.1, 1000.0)
#: VP9's limit, and enough for any display.
SIDE_LIMIT = 16384


class Encoder(Protocol):
    """Puts frames into a file or folder."""

    def write(self, frame: Frame) -> None: ...

    def finish(self) -> None: ...

    def abort(self) -> None: ...


class VideoWriter:
    """Takes frames of one size. ``path`` is where the video will be, ``count`` how many frames it has."""

    def __init__(self, path: Path, start: Callable[[], Encoder]) -> None:
        self.path = path
        self.count = 0
        self._start = start
        self._encoder: Encoder | None = None
        self._shape: tuple[int, ...] | None = None

    def write(self, frame: Frame) -> None:
        """Append a frame, uint8 (height, width, 3).

        Raises InvalidRequest for anything else or another size than before, StoreError when the disk is full.
        """
        _check_frame(frame, self._shape)
        self._shape = frame.shape
        with _explained(self.path):
            if self._encoder is None:
                self._encoder = self._start()
            self._encoder.write(np.ascontiguousarray(frame))
        self.count += 1

    def finish(self) -> None:
        """Complete the file; InvalidRequest if there is no frame in it."""
        if self._encoder is None:
            raise InvalidRequest(f"no frames were written to {self.path}")
        with _explained(self.path):
            self._encoder.finish()

    def abort(self) -> None:
        """Let go of the file."""
        if self._encoder is not None:
            with suppress(OSError, av.FFmpegError):
                self._encoder.abort()


@contextmanager
def open_writer(
    path: str | Path,
    fps: float,
    format: str | None = None,
    metadata: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None,
) -> Iterator[VideoWriter]:
    """Open ``path`` for a video of ``fps`` frames a second: mp4 (H.264), webm (VP9), gif or png.

    Frames are encoded as they come, under a temporary name beside ``path``; leaving the block moves the video
    into place, leaving it by an exception removes it. One PNG is a file, more are a folder of the same name
    without ``.png``; ``VideoWriter.path`` is right afterwards. ``metadata``, the run's provenance, goes into
    the file as JSON; a function is asked for it when the first frame comes, and once before. The same frames
    make the same bytes. Raises InvalidRequest for arguments that cannot be used (see ``destination``) or a
    block that wrote no frame, and StoreError when the disk fails.
    """
    rate = frame_rate(fps)
    describe = metadata if callable(metadata) else lambda: metadata or {}
    provenance_text(describe())  # what cannot be written must not be found out after hours
    wanted = destination(path, format)
    partial = wanted.path.with_name(f".wanrun-{secrets.token_hex(8)}.part")
    try:
        with _explained(wanted.path):
            _reserve(wanted.format, partial)
        writer = VideoWriter(
            wanted.path, lambda: _open(wanted.format, partial, rate, provenance_text(describe()))
        )
        try:
            yield writer
            writer.finish()
            with _explained(wanted.path):
                writer.path = _publish(partial, wanted, writer.count)
        except BaseException:
            writer.abort()
            raise
    finally:
        with suppress(OSError):
            _remove(partial)


def frame_rate(fps: float) -> Fraction:
    """``fps`` as a fraction: 23.976, 29.97 and their like become the n·1000/1001 that they stand for."""
    low, high = FPS_LIMITS
    if not low <= fps <= high:
        raise InvalidRequest(f"fps must be {low:g} to {high:g}, not {fps}")
    whole = math.ceil(fps)
    if fps != whole and abs(fps - whole * 1000 / 1001) < 0.001:
        return Fraction(whole * 1000, 1001)
    return Fraction(fps).limit_denominator(1001)


def _reserve(format: str, partial: Path) -> None:
    """Find out before any frame is made whether the file can be written."""
    if format == "png":
        partial.mkdir()
    else:
        partial.touch(exist_ok=False)


def _open(format: str, partial: Path, rate: Fraction, comment: str) -> Encoder:
    if format == "png":
        return PngEncoder(partial, comment)
    if format == "gif":
        return GifEncoder(partial, rate, comment)
    return film.FilmEncoder(film.WEBM if format == "webm" else film.MP4, partial, rate, comment)


def _check_frame(frame: Frame, shape: tuple[int, ...] | None) -> None:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise InvalidRequest(f"a frame must be uint8 (height, width, 3), not {frame.dtype} {frame.shape}")
    if not all(1 <= side <= SIDE_LIMIT for side in frame.shape[:2]):
        raise InvalidRequest(f"a frame's sides must be 1 to {SIDE_LIMIT} pixels, not {frame.shape[:2]}")
    if shape is not None and frame.shape != shape:
        raise InvalidRequest(
            f"all frames must have the size of the first, {shape[:2]}, not {frame.shape[:2]}"
        )


def _publish(partial: Path, wanted: Destination, count: int) -> Path:
    """Move what was written to where it was wanted, after it has reached the disk."""
    if wanted.format != "png":
        _sync(partial)
        return partial.replace(wanted.path)
    files = sorted(partial.iterdir())
    for file in files:
        _sync(file)
    if count == 1:
        return files[0].replace(wanted.path)
    return partial.replace(wanted.folder)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _remove(partial: Path) -> None:
    if partial.is_dir():
        shutil.rmtree(partial, ignore_errors=True)
    else:
        partial.unlink(missing_ok=True)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, av.FFmpegError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StoreError(
            f"could not write {path}: {reason}; free some space or choose another folder"
        ) from error
