"""A process that quantises may fail, be killed, or not be wanted any more: nothing of it stays."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from wanrun.errors import FormatError, InvalidRequest, StoreError
from wanrun.store import garbage
from wanrun.store.durable import scratch
from wanrun.store.quantizing import quantize_apart

SOURCE = Path(__file__).parents[2] / "modelfiles" / "wan-toy" / "wan-toy-high-noise-Q8_0.gguf"


def quiet(phase: str, done: int, total: int) -> None:
    pass


def child() -> int:
    """The process that quantises."""
    mine = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()
    (pid,) = [pid for pid in mine if b"wanrun.store.quantizing" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return int(pid)


def test_progress_is_told_and_the_file_is_there(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    quantize_apart(SOURCE, tmp_path / "out.gguf", "q4_0", lambda *progress: told.append(progress))
    assert {phase for phase, _, _ in told} == {"quantising"}
    counts = [done for _, done, _ in told]
    assert counts == sorted(counts)
    assert told[-1][1] == told[-1][2] == (tmp_path / "out.gguf").stat().st_size < SOURCE.stat().st_size


def test_mistakes_are_what_they_are_in_one_process(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no type that can be made"):
        quantize_apart(SOURCE, tmp_path / "out.gguf", "Q9", quiet)
    with pytest.raises(InvalidRequest, match="no Wan transformer"):
        quantize_apart(SOURCE.with_name("wan-toy-umt5-F16.gguf"), tmp_path / "out.gguf", "Q4_0", quiet)
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(FormatError):
        quantize_apart(tmp_path / "bad.gguf", tmp_path / "out.gguf", "Q4_0", quiet)
    assert not (tmp_path / "out.gguf").exists()


def test_a_process_that_is_killed_is_told_of_and_swept_up(home: Path) -> None:
    killed: list[int] = []

    def kill(phase: str, done: int, total: int) -> None:
        if not killed:
            killed.append(child())
            os.kill(killed[0], signal.SIGKILL)

    with pytest.raises(StoreError, match=r"ended by SIGKILL \(out of memory, perhaps\)"):
        quantize_apart(SOURCE, scratch(home / "blobs"), "Q4_0", kill)
    assert list((home / "blobs").iterdir())
    garbage.collect(home)
    assert not list((home / "blobs").iterdir())


def test_who_does_not_want_it_any_more_ends_it(tmp_path: Path) -> None:
    pids = []

    def leave(phase: str, done: int, total: int) -> None:
        pids.append(child())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize_apart(SOURCE, tmp_path / "out.gguf", "Q4_0", leave)
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)
    assert not (tmp_path / "out.gguf").exists()
