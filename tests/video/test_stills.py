"""Pictures of a finished video are its frames."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wanrun.errors import FormatError, ModelNotFound
from wanrun.types import Frame
from wanrun.video.stills import first_frame, spritesheet, thumbnail
from wanrun.video.writer import open_writer


def film(path: Path, count: int, width: int = 64, height: int = 48) -> Path:
    """A video whose frames go from black to white."""
    with open_writer(path, 8, None, {}) as writer:
        for index in range(count):
            shade = round(255 * index / max(1, count - 1))
            frame: Frame = np.full((height, width, 3), shade, np.uint8)
            writer.write(frame)
    return path


def opened(data: bytes) -> Image.Image:
    return Image.open(BytesIO(data))


@pytest.mark.parametrize("format", ["mp4", "webm", "gif"])
def test_every_format_has_pictures(tmp_path: Path, format: str) -> None:
    path = film(tmp_path / f"film.{format}", 5)
    first = opened(first_frame(path, "png"))
    assert (first.format, first.size) == ("PNG", (64, 48))
    assert np.asarray(first.convert("RGB")).mean() < 10
    assert opened(thumbnail(path)).format == "WEBP"
    assert opened(spritesheet(path, 5)).size == (4 * 64, 2 * 48)


def test_a_sheet_goes_from_the_first_frame_to_the_last(tmp_path: Path) -> None:
    sheet = np.asarray(opened(spritesheet(film(tmp_path / "film.mp4", 33), 33)).convert("L"))
    assert sheet.shape == (4 * 48, 4 * 64)
    assert sheet[:48, :64].mean() < 10
    assert sheet[-48:, -64:].mean() > 245


@pytest.mark.parametrize("count", [1, 2, 16, 17])
def test_a_sheet_has_16_pictures_at_most(tmp_path: Path, count: int) -> None:
    width, height = opened(spritesheet(film(tmp_path / "film.mp4", count), count)).size
    shown = min(16, count)
    assert (width, height) == (64 * min(4, shown), 48 * -(-shown // 4))


def test_pictures_of_a_large_video_are_small(tmp_path: Path) -> None:
    path = film(tmp_path / "film.mp4", 2, 1024, 512)
    assert opened(thumbnail(path)).size == (512, 256)
    assert opened(spritesheet(path, 2)).size == (2 * 192, 96)
    assert opened(first_frame(path, "webp")).size == (1024, 512)


def test_what_is_no_video_is_said_to_be_none(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    with pytest.raises(ModelNotFound, match=r"film\.mp4 is gone"):
        thumbnail(path)
    for data in (b"", b"text", b"#EXTM3U\nfile:///etc/passwd\n"):
        path.write_bytes(data)
        with pytest.raises(FormatError, match=r"^film\.mp4 "):
            thumbnail(path)
