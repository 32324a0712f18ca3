"""Tests how files are told apart, and which are refused unread."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.gguf.samples import plain_gguf, rich_safetensors
from wanrun.errors import FormatError, InvalidRequest, ModelNotFound
from wanrun.gguf.header import file_format, read_header


def test_first_bytes_decide_and_not_the_name(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(plain_gguf().data)
    (tmp_path / "b").write_bytes(rich_safetensors())
    assert file_format(tmp_path / "a.pth") == "gguf"
    assert read_header(tmp_path / "b").format == "safetensors"


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_are_refused_with_advice(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "Wan2.1_VAE.pth"
    path.write_bytes(pickle.dumps({"weight": [1.0] * 100}, protocol))
    with pytest.raises(FormatError, match=r"pickled.*convert it to safetensors"):
        read_header(path)


@pytest.mark.parametrize("name", ["model.pt", "model"])
def test_zipped_checkpoints_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps([1]))
    with pytest.raises(FormatError, match="pickled"):
        read_header(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"hello, world", "neither GGUF nor safetensors.*hello"),
        (b"lmgg" + bytes(20), "older than GGUF"),
        (b"GGUF", "the version at byte 4 needs 4 bytes"),
        (b"\0", "neither"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(FormatError, match=message):
        read_header(path)


def test_a_name_that_promises_safetensors_gives_its_errors(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"\xff" * 20)
    with pytest.raises(FormatError, match="header would take 18446744073709551615 bytes of a file of 20"):
        read_header(path)


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        for path, message in (
            (tmp_path, "a directory"),
            (tmp_path / "pipe", "a pipe"),
            (Path("/dev/zero"), "device"),
        ):
            with pytest.raises(FormatError, match=message):
                read_header(path)
        with pytest.raises(InvalidRequest):
            read_header(tmp_path / "s")


def test_missing_files_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.gguf", tmp_path / "none" / "none.gguf"):
        with pytest.raises(ModelNotFound, match=r"none\.gguf"):
            read_header(path)
    with pytest.raises(InvalidRequest):
        read_header(Path("nul\0byte"))


def test_headers_need_no_torch() -> None:
    """Nor numpy: `inspect` should start at once."""
    code = (
        "import sys, wanrun.gguf.header, wanrun.gguf.writer\n"
        "assert not {'torch', 'numpy', 'llama_cpp'} & set(sys.modules), 'heavy imports'\n"
        "import wanrun.gguf.ggml; wanrun.gguf.ggml.library()\n"
        "assert not {'torch', 'llama_cpp'} & set(sys.modules), 'heavy imports'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
