"""Destinations: names are names, never protocols, options or patterns, and mistakes show before the work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wanrun.errors import InvalidRequest
from wanrun.video.destination import FORMATS, destination
from wanrun.video.writer import open_writer

from .clips import flat


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("path", "format", "name"),
    [
        ("clip.mp4", None, "clip.mp4"),
        ("clip.WebM", None, "clip.WebM"),
        ("clip", None, "clip.mp4"),
        ("clip", "gif", "clip.gif"),
        ("clip", "GIF", "clip.gif"),
        ("clip.v2", "webm", "clip.v2.webm"),
        ("clip.v2.png", None, "clip.v2.png"),
        (".hidden", "mp4", ".hidden.mp4"),
    ],
)
def test_names_and_formats(tmp_path: Path, path: str, format: str | None, name: str) -> None:
    wanted = destination(path, format)
    assert wanted.path == tmp_path / name
    assert wanted.format == name.rpartition(".")[2].lower()


@pytest.mark.parametrize(
    ("path", "format", "message"),
    [
        ("clip.mov", None, "format 'mov'.*mp4, webm, gif, png"),
        ("clip.mp4", "avi", "format 'avi'"),
        ("clip.mp4", "", "format ''"),
        ("clip.gif", "mp4", r"ends in \.gif but the format is mp4"),
        ("", None, "not a file name"),
        (".", None, "not a file name"),
        ("..", "mp4", "not a file name"),
        ("a\0b.mp4", None, "not a file name"),
        ("nowhere/clip.mp4", None, "no folder"),
        ("x" * 300 + ".mp4", None, "cannot write .*too long"),
    ],
)
def test_refuses(path: str, format: str | None, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        destination(path, format)


def test_a_device_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "null.mp4").symlink_to("/dev/null")
    with pytest.raises(InvalidRequest, match="not a file"):
        destination("null.mp4")


def test_refuses_a_folder(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").mkdir()
    (tmp_path / "folder").mkdir()
    for path in ("clip.mp4", "folder", "folder/", tmp_path):
        with pytest.raises(InvalidRequest, match=r"folder|not a file"):
            destination(path)


def test_refuses_a_file_as_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidRequest, match="no folder"):
        destination("file/clip.mp4")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that nobody can write to")
def test_refuses_a_folder_that_cannot_be_written() -> None:
    with pytest.raises(InvalidRequest, match="cannot be written"):
        destination("/proc/self/clip.mp4")


def test_frames_never_join_others(tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    assert destination("clip.png").folder == tmp_path / "clip"
    (tmp_path / "clip" / "00001.png").touch()
    with pytest.raises(InvalidRequest, match="already holds files"):
        destination("clip.png")
    (tmp_path / "other").touch()
    with pytest.raises(InvalidRequest, match="not a folder"):
        destination("other.png")


@pytest.mark.parametrize(
    "name",
    [
        "concat:a|b",
        "file:x",
        "http:--localhost",
        "-y",
        "--help",
        "%05d",
        "a'b\n\"c",
        "名前 ☃",
        "pipe:1",
        "data:,x",
    ],
)
@pytest.mark.parametrize("format", FORMATS)
def test_a_name_is_only_a_name(tmp_path: Path, name: str, format: str) -> None:
    """What ffmpeg would take for a protocol, an option or a pattern becomes a file of that very name."""
    with open_writer(name, 16, format) as writer:
        writer.write(next(flat(1, 16, 16)))
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.{format}"]
    assert writer.path.stat().st_size > 0


def test_a_name_that_is_not_unicode(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.mp4")
    with open_writer(tmp_path / name, 16) as writer:
        writer.write(next(flat(1, 16, 16)))
    assert [os.fsencode(path.name) for path in tmp_path.iterdir()] == [b"caf\xe9.mp4"]
