"""Whenever a write ends, nothing stands under the final name, and the same call finishes the same bytes."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from wanrun.errors import FormatError, InvalidRequest, StoreError
from wanrun.gguf.header import read_header
from wanrun.gguf.layouts import gguf_layout
from wanrun.gguf.resumable import write_resumable
from wanrun.gguf.writer import write_gguf

METADATA = {"general.architecture": "wan"}
ENTRIES = [
    ("a", "F32", (2, 5)),
    ("empty", "F32", (0,)),
    ("b", "Q8_0", (3, 32)),
    ("c", "F16", ()),
    ("d", "BF16", (40,)),
]
DATA = [random.Random(size).randbytes(size) for size in (40, 0, 102, 2, 80)]
ONE = gguf_layout({}, ENTRIES[:1])


class Stopped(BaseException):
    pass


def pieces(first: int) -> Iterator[bytes]:
    for data in DATA[first:]:
        yield from (data[start : start + 33] for start in range(0, len(data), 33))


def write(path: Path, job: bytes = b"job", stop_after: int = 1 << 40) -> list[int]:
    """Returns from which entries on data were asked for."""
    asked = []

    def some(first: int) -> Iterator[bytes]:
        asked.append(first)
        left = stop_after
        for piece in pieces(first):
            if left < 0:
                raise Stopped
            left -= len(piece)
            yield piece

    write_resumable(path, job, gguf_layout(METADATA, ENTRIES), some, lambda done, total: None)
    return asked


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    path = tmp_path / "whole.gguf"
    write_gguf(path, METADATA, [(*entry, data) for entry, data in zip(ENTRIES, DATA, strict=True)])
    return path.read_bytes()


def parts(folder: Path) -> list[Path]:
    return sorted(folder.glob(".*.part"))


@pytest.mark.parametrize("stop_after", [0, 40, 100, 141, 150])
def test_a_stop_leaves_a_part_that_is_gone_on_with(tmp_path: Path, whole: bytes, stop_after: int) -> None:
    target = tmp_path / "out.gguf"
    with pytest.raises(Stopped):
        write(target, stop_after=stop_after)
    (part,) = parts(tmp_path)
    assert not target.exists()
    with pytest.raises(FormatError):
        read_header(part)
    asked = write(target)
    assert asked == [{0: 0, 40: 2, 100: 2, 141: 3, 150: 4}[stop_after]]
    assert target.read_bytes() == whole
    assert not parts(tmp_path)


def test_a_part_cut_at_any_byte_is_gone_on_with(tmp_path: Path, whole: bytes) -> None:
    with pytest.raises(Stopped):
        write(tmp_path / "out.gguf", stop_after=150)
    (part,) = parts(tmp_path)
    stored = part.read_bytes()
    for cut in range(0, len(stored), 5):
        part.write_bytes(stored[:cut])
        with pytest.raises(FormatError):
            read_header(part)
        write(tmp_path / "out.gguf")
        assert (tmp_path / "out.gguf").read_bytes() == whole
        (tmp_path / "out.gguf").unlink()


def test_another_job_starts_anew_and_the_old_target_stays_till_the_end(tmp_path: Path, whole: bytes) -> None:
    target = tmp_path / "out.gguf"
    target.write_bytes(b"old")
    with pytest.raises(Stopped):
        write(target, b"first", stop_after=100)
    with pytest.raises(Stopped):
        write(target, b"second", stop_after=100)
    assert len(parts(tmp_path)) == 1
    assert target.read_bytes() == b"old"
    assert write(target, b"first") == [0]
    assert target.read_bytes() == whole


def test_data_that_do_not_fit_leave_nothing(tmp_path: Path) -> None:
    target = tmp_path / "out.gguf"
    for wrong in ([b"x" * 41], [b"x" * 39], list[bytes]()):
        with pytest.raises(InvalidRequest, match="tensor 'a'"):
            write_resumable(target, b"", ONE, partial(_given, wrong), lambda *numbers: None)
        assert not list(tmp_path.iterdir())
    with pytest.raises(StoreError, match="are free"):
        write_resumable(
            target, b"", gguf_layout({}, [("a", "F32", (1 << 50,))]), pieces, lambda *numbers: None
        )
    with pytest.raises(InvalidRequest, match="no folder"):
        write(tmp_path / "none" / "out.gguf")
    assert not list(tmp_path.iterdir())


def _given(data: list[bytes], first: int) -> list[bytes]:
    return data[first:]


CHILD = """
import sys, time
from pathlib import Path
from wanrun.gguf.layouts import gguf_layout
from wanrun.gguf.resumable import write_resumable
def pieces(first):
    print(first, flush=True)
    for index in range(first, 40):
        yield bytes([index]) * 50_000
        time.sleep(0.01)
        yield bytes([index + 1]) * 50_000
layout = gguf_layout({}, [(f"t{i}", "I8", (100_000,)) for i in range(40)])
write_resumable(Path(sys.argv[1]), b"", layout, pieces, lambda *numbers: None)
"""


def test_killed_again_and_again_it_is_finished_in_the_end(tmp_path: Path) -> None:
    target, begun = tmp_path / "out.gguf", []
    for delay in (0.05, 0.12, 0.2, 60):
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(target)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        begun.append(int(process.stdout.readline()))
        if delay < 1:
            time.sleep(delay)
            with pytest.raises(InvalidRequest, match="another process"):
                write_other(target)
            process.send_signal(signal.SIGKILL)
        process.wait(delay)
        process.stdout.close()
        assert target.exists() == (delay > 1)
    assert begun == sorted(begun)
    assert begun[-1] > 0
    stored = target.read_bytes()
    header = read_header(target)
    for index, info in enumerate(header.tensors.values()):
        data = stored[info.offset : info.offset + info.nbytes]
        assert data == bytes([index]) * 50_000 + bytes([index + 1]) * 50_000
    assert not parts(tmp_path)


def write_other(target: Path) -> None:
    write_resumable(target, b"other", ONE, pieces, lambda *numbers: None)
