"""Writer: what comes out is what went in, complete or not at all, the same bytes every time."""

from __future__ import annotations

import gc
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence

from wanrun.errors import InvalidRequest, StoreError
from wanrun.video.destination import FORMATS
from wanrun.video.writer import frame_rate, open_writer

from .clips import Frame, decode, flat, psnr, smooth


def write(path: Path, frames: Iterator[Frame], fps: float = 16, format: str | None = None) -> Path:
    with open_writer(path, fps, format, {"prompt": "waves"}) as writer:
        for frame in frames:
            writer.write(frame)
    return writer.path


@pytest.mark.parametrize("size", [(96, 160), (97, 161), (96, 161), (97, 160)], ids=str)
@pytest.mark.parametrize("container", ["mp4", "webm"])
def test_a_film_comes_back_as_it_was(tmp_path: Path, container: str, size: tuple[int, int]) -> None:
    frames = list(smooth(33, *size))
    decoded = decode(write(tmp_path / f"clip.{container}", iter(frames)), container)
    assert len(decoded) == 33
    assert {frame.shape for frame in decoded} == {(*size, 3)}
    assert min(psnr(*pair) for pair in zip(frames, decoded, strict=True)) >= 38
    bias = np.mean(
        [frame.astype(float) - back for frame, back in zip(frames, decoded, strict=True)], axis=(0, 1, 2)
    )
    assert np.abs(bias).max() < 0.75


@pytest.mark.parametrize(("container", "codec"), [("mp4", "h264"), ("webm", "vp9")])
def test_what_the_container_says(tmp_path: Path, container: str, codec: str) -> None:
    path = write(tmp_path / f"clip.{container}", smooth(48, 64, 96), fps=23.976)
    with av.open(str(path), format=container) as file:
        stream = file.streams.video[0]
        assert (stream.codec_context.name.removeprefix("lib"), stream.pix_fmt) == (codec, "yuv420p")
        assert stream.average_rate == Fraction(24000, 1001)
        assert file.duration is not None
        assert file.duration / av.time_base == pytest.approx(48 * 1001 / 24000, abs=0.005)
        context = stream.codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (
            1,
            1,
            1,
            1,
        )
        assert "creation_time" not in file.metadata | stream.metadata
        times = [frame.time for frame in file.decode(stream)]
    assert times == pytest.approx([index * 1001 / 24000 for index in range(48)], abs=0.001)


def test_an_mp4_can_play_while_it_downloads(tmp_path: Path) -> None:
    data = write(tmp_path / "clip.mp4", smooth(5, 64, 64)).read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


def test_colours_survive(tmp_path: Path) -> None:
    """Matrix and range of encoder, tags and decoder agree: primaries come back within a few levels."""
    for colour in ((235, 20, 20), (20, 235, 20), (20, 20, 235), (128, 128, 128), (255, 255, 255), (0, 0, 0)):
        frame = np.full((64, 64, 3), colour, dtype=np.uint8)
        for container in ("mp4", "webm"):
            path = write(tmp_path / f"clip.{container}", iter([frame] * 3))
            assert np.abs(decode(path, container)[1].astype(int) - frame).max() <= 3


def test_a_gif_of_few_colours_is_exact(tmp_path: Path) -> None:
    frames = list(flat(20, 48, 63))
    with Image.open(write(tmp_path / "clip.gif", iter(frames), fps=24)) as image:
        assert isinstance(image.info["loop"], int)
        assert image.info["loop"] == 0
        decoded, durations = [], []
        for frame in ImageSequence.Iterator(image):
            durations.append(frame.info["duration"])
            decoded.append(np.asarray(frame.convert("RGB")))
    assert len(decoded) == 20
    assert all(np.array_equal(*pair) for pair in zip(frames, decoded, strict=True))
    assert set(durations) == {40, 50}
    assert sum(durations) == pytest.approx(20 / 24 * 1000, abs=10)


def test_a_gif_of_many_colours_is_close(tmp_path: Path) -> None:
    frames = list(smooth(3, 300, 400))
    decoded = decode(write(tmp_path / "clip.gif", iter(frames)), "gif")
    assert [frame.shape for frame in decoded] == [(300, 400, 3)] * 3
    blurred = [[np.asarray(Image.fromarray(f).reduce(8)) for f in clip] for clip in (frames, decoded)]
    assert min(psnr(*pair) for pair in zip(*blurred, strict=True)) > 30


def test_many_pngs_are_a_folder(tmp_path: Path) -> None:
    frames = list(smooth(12, 33, 17))
    folder = write(tmp_path / "clip.png", iter(frames))
    assert folder == tmp_path / "clip"
    names = sorted(path.name for path in folder.iterdir())
    assert names == [f"{number:05d}.png" for number in range(1, 13)]
    for name, frame in zip(names, frames, strict=True):
        with Image.open(folder / name) as image:
            assert np.array_equal(np.asarray(image), frame)
    assert [path.name for path in tmp_path.iterdir()] == ["clip"]


def test_one_png_is_a_file(tmp_path: Path) -> None:
    frame = next(smooth(1, 33, 17))
    path = write(tmp_path / "clip.png", iter([frame]))
    assert [path] == list(tmp_path.iterdir()) == [tmp_path / "clip.png"]
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(image), frame)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 5), (3, 2)], ids=str)
@pytest.mark.parametrize("format", FORMATS)
def test_tiny_frames(tmp_path: Path, format: str, size: tuple[int, int]) -> None:
    path = write(tmp_path / f"clip.{format}", smooth(1, *size))
    if format in ("mp4", "webm"):
        assert [frame.shape for frame in decode(path, format)] == [(*size, 3)]
    else:
        with Image.open(path) as image:
            assert image.size == size[::-1]


@pytest.mark.parametrize("format", FORMATS)
def test_same_frames_same_bytes(tmp_path: Path, format: str) -> None:
    paths = [write(tmp_path / f"{name}.{format}", smooth(20, 64, 96)) for name in "ab"]
    files = [sorted(path.rglob("*.png")) if path.is_dir() else [path] for path in paths]
    one, other = ([file.read_bytes() for file in group] for group in files)
    assert one == other


def test_small_smooth_frames_make_the_same_bytes_every_time(tmp_path: Path) -> None:
    """x264 with its macroblock tree gives other bytes 3 times in 100."""
    row, column = np.mgrid[:32, :32]
    balls = [np.exp(-((row - 10 - 2 * index) ** 2 + (column - 16) ** 2) / 40) for index in range(5)]
    clip = [(np.stack([ball, 0.3 * ball + 0.2, 1 - ball], -1) * 255).astype(np.uint8) for ball in balls]
    made = set()
    for _ in range(200):
        write(tmp_path / "a.mp4", iter(clip))
        made.add((tmp_path / "a.mp4").read_bytes())
    assert len(made) == 1


@pytest.mark.parametrize("format", FORMATS)
def test_views_into_larger_arrays_are_written_as_they_look(tmp_path: Path, format: str) -> None:
    whole = next(smooth(1, 80, 80))
    view = whole[8:72, 72:8:-1]
    paths = [write(tmp_path / f"{n}.{format}", iter([f])) for n, f in enumerate((view, view.copy()))]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
@pytest.mark.parametrize("format", FORMATS)
def test_memory_does_not_grow_with_the_number_of_frames(tmp_path: Path, format: str) -> None:
    frames = list(flat(8, 96, 160))  # 46 kB each: 480 of them held back would be 22 MB
    with open_writer(tmp_path / "clip", 16, format) as writer:
        for index in range(120):
            writer.write(frames[index % 8])
        early = resident_bytes()
        for index in range(480):
            writer.write(frames[index % 8])
        assert resident_bytes() - early < 8e6
    assert writer.count == 600


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("format", FORMATS)
def test_an_interrupted_video_leaves_nothing(tmp_path: Path, format: str, error: type[BaseException]) -> None:
    with pytest.raises(error), open_writer(tmp_path / f"clip.{format}", 16) as writer:
        for frame in smooth(60, 64, 64):
            writer.write(frame)
        assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
        raise error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", ["mp4", "webm", "gif"])
def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path, format: str) -> None:
    path = tmp_path / f"clip.{format}"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), open_writer(path, 16) as writer:
        writer.write(next(smooth(1, 64, 64)))
        raise RuntimeError
    assert path.read_bytes() == b"old"
    with path.open("rb") as playing:
        with open_writer(path, 16) as writer:
            writer.write(next(smooth(1, 64, 64)))
            assert path.read_bytes() == b"old"
        assert path.read_bytes() != b"old"
        assert playing.read() == b"old"


def test_a_process_that_dies_leaves_no_video(tmp_path: Path) -> None:
    program = """
import numpy, os, sys
from wanrun.video.destination import FORMATS
from wanrun.video.writer import open_writer
held = [open_writer(f"clip.{format}", 16) for format in FORMATS]
for writer in held:
    writer.__enter__().write(numpy.zeros((64, 64, 3), numpy.uint8))
os._exit(7)
"""
    assert subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=False).returncode == 7
    assert [path.suffix for path in tmp_path.iterdir()] == [".part"] * len(FORMATS)


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """The nearest thing to a full disk that needs no rights: writes past ``size`` fail."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("format", FORMATS)
def test_a_full_disk_is_an_error_that_says_so(tmp_path: Path, format: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (20, 128, 128, 3), dtype=np.uint8)
    with (
        files_limited_to(20_000),
        pytest.raises(StoreError, match=r"could not write .*clip.*: File too large; free some space"),
    ):
        write(tmp_path / f"clip.{format}", iter(noise))
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_block_keeps_its_type(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), open_writer(tmp_path / "clip.mp4", 16):
        raise FileNotFoundError("a model, not the video")


@pytest.mark.parametrize("format", FORMATS)
def test_no_frames_are_no_video(tmp_path: Path, format: str) -> None:
    with pytest.raises(InvalidRequest, match="no frames"), open_writer(tmp_path / f"clip.{format}", 16):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((1, 20000, 3), np.uint8),
        np.zeros((8, 10, 3), np.uint8),
    ],
    ids=lambda frame: f"{frame.dtype}{frame.shape}",
)
def test_refuses_frames(tmp_path: Path, frame: Frame) -> None:
    with open_writer(tmp_path / "clip.mp4", 16) as writer:
        writer.write(np.zeros((8, 8, 3), np.uint8))
        with pytest.raises(InvalidRequest, match="frame"):
            writer.write(frame)
    assert writer.count == 1


@pytest.mark.parametrize(
    ("fps", "rate"),
    [
        (16, Fraction(16)),
        (24.0, Fraction(24)),
        (23.976, Fraction(24000, 1001)),
        (24000 / 1001, Fraction(24000, 1001)),
        (29.97, Fraction(30000, 1001)),
        (59.94, Fraction(60000, 1001)),
        (12.5, Fraction(25, 2)),
        (0.1, Fraction(1, 10)),
    ],
)
def test_frame_rates(fps: float, rate: Fraction) -> None:
    assert frame_rate(fps) == rate


@pytest.mark.parametrize("fps", [0, -1, 0.01, 1e6, float("nan"), float("inf")])
def test_refuses_frame_rates(tmp_path: Path, fps: float) -> None:
    with (
        pytest.raises(InvalidRequest, match=r"fps must be 0\.1 to 1000"),
        open_writer(tmp_path / "clip.mp4", fps),
    ):
        pass
