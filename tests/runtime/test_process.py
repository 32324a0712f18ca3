"""A worker makes the same video as the library does, stops when it is told to, and dies alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

import wanrun
from tests.runtime.machines import keep
from tests.server.orders import REQUEST
from wanrun.runtime import runs
from wanrun.runtime.messages import Task
from wanrun.runtime.process import Outcome, Process, Report, without_paths

LONG = replace(REQUEST, steps=60)


@pytest.fixture
def worker(home: Path) -> Iterator[Process]:
    keep(home, "cpu")
    started = Process()
    yield started
    started.close()


def task(home: Path, request: wanrun.GenerationRequest = REQUEST, name: str = "out.webm") -> Task:
    run = runs.begin(home, wanrun.load("wan-toy"), request)
    return Task(run.id, str(home / name), "webm", "cpu")


def never() -> bool:
    return False


def ignore(report: Report) -> None:
    """Nobody asks how far it is."""


def at(step: int, act: Callable[[], object]) -> Callable[[Report], None]:
    """What ``act`` does, once the sampler has made this step."""

    def tell(report: Report) -> None:
        if report.phase == "denoise" and report.done == step:
            act()

    return tell


def test_videos_are_those_of_the_library_and_the_second_starts_at_once(worker: Process, home: Path) -> None:
    reports: list[Report] = []
    assert worker.run(task(home), reports.append, never) == Outcome("done")
    phases = [report.phase for report in reports if report.phase]
    assert list(dict.fromkeys(phases)) == ["text", "denoise", "decode"]
    assert [(each.done, each.total) for each in reports if each.phase == "denoise"] == [
        (done, 3) for done in range(4)
    ]
    pictures = [Image.open(BytesIO(report.preview)) for report in reports if report.preview]
    assert {picture.size for picture in pictures} == {(4, 4)}
    pid = worker.pid
    started = time.monotonic()
    assert worker.run(task(home, name="again.webm"), ignore, never).kind == "done"
    assert (worker.pid, worker.alive) == (pid, True)
    assert (home / "again.webm").read_bytes() == (home / "out.webm").read_bytes()
    assert time.monotonic() - started < 30


def test_a_task_stops_within_a_step_and_the_next_one_runs(worker: Process, home: Path) -> None:
    asked: list[float] = []
    long = task(home, replace(LONG, width=256, height=256, latent_shape=(16, 2, 32, 32)))
    begin = at(1, lambda: asked.append(time.monotonic()))
    assert worker.run(long, begin, lambda: bool(asked)) == Outcome("cancelled")
    assert time.monotonic() - asked[0] < 10
    assert not (home / "out.webm").exists()
    assert not list(home.glob(".wanrun-*"))
    assert worker.run(task(home), ignore, never).kind == "done"


def test_a_task_that_was_stopped_before_it_began_does_not_begin(worker: Process, home: Path) -> None:
    assert worker.run(task(home), ignore, lambda: True) == Outcome("cancelled")
    assert worker.run(task(home), ignore, never).kind == "done"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV])
def test_a_worker_that_dies_says_of_what(worker: Process, home: Path, number: signal.Signals) -> None:
    outcome = worker.run(task(home, LONG), at(2, lambda: os.kill(worker.pid, number)), never)
    assert (outcome.kind, outcome.signal) == ("died", number.name)
    assert outcome.reason.startswith(f"the worker was ended by {number.name} (")
    assert not worker.alive
    assert worker.run(task(home), ignore, never).kind == "died"


def test_a_worker_that_hangs_is_killed_when_it_should_stop(home: Path) -> None:
    keep(home, "cpu")
    worker = Process(grace_s=0.3)
    asked: list[bool] = []

    def hang() -> None:
        os.kill(worker.pid, signal.SIGSTOP)
        asked.append(True)

    assert worker.run(task(home, LONG), at(1, hang), lambda: bool(asked)) == Outcome("cancelled")
    assert not worker.alive


def test_mistakes_are_told_without_paths(worker: Process, home: Path) -> None:
    missing = worker.run(Task("00000000", str(home / "x.mp4"), device="cpu"), ignore, never)
    assert missing.kind == "failed"
    assert "no interrupted run '00000000'" in missing.reason
    nowhere = replace(task(home), output=str(home / "nowhere" / "x.webm"))
    failed = worker.run(nowhere, ignore, never)
    assert failed.kind == "failed"
    assert str(home) not in failed.reason
    assert "nowhere" in failed.reason
    assert worker.alive


def test_what_nobody_foresaw_ends_the_worker_with_its_reason(worker: Process, home: Path) -> None:
    broken = task(home, replace(REQUEST, steps="three"))  # type: ignore[arg-type]
    outcome = worker.run(broken, ignore, never)
    assert outcome.kind == "failed"
    assert outcome.reason.startswith("TypeError: ")
    assert "Traceback" not in outcome.reason


def test_a_worker_ends_with_its_parent(home: Path) -> None:
    program = (
        "import sys, time; from wanrun.runtime.process import Process\n"
        "print(Process().pid, flush=True); time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    for _ in range(600):
        if not Path(f"/proc/{pid}").exists():
            return
        time.sleep(0.05)
    raise AssertionError("the worker outlived its parent")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cannot write /root/.wanrun/runs/0a: full", "cannot write 0a: full"),
        ("'/a/b c/d.gguf' is cut", "'b c/d.gguf' is cut"),
        ("see https://example.com/a/b", "see https://example.com/a/b"),
        ("C:\\Users\\x\\file.txt", "file.txt"),
        ("half/whole, 3/4 of it", "half/whole, 3/4 of it"),
        ("", ""),
    ],
)
def test_paths_keep_only_their_last_part(text: str, shown: str) -> None:
    assert without_paths(text) == shown


def test_a_reason_has_an_end() -> None:
    assert len(without_paths("x" * 10**6)) == 2000
