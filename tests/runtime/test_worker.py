"""What a worker says before its first step, and when it must not go on."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest

import wanrun
from tests.runtime.machines import keep
from tests.server.orders import REQUEST
from wanrun.runtime import runs
from wanrun.runtime.interrupt import Cancelled
from wanrun.runtime.messages import Task
from wanrun.runtime.process import Outcome, Process, Report
from wanrun.runtime.worker import imports


def task(home: Path) -> Task:
    run = runs.begin(home, wanrun.load("wan-toy"), REQUEST)
    return Task(run.id, str(home / "out.webm"), "webm", "cpu")


def test_the_first_run_says_that_the_machine_is_measured(home: Path) -> None:
    worker, heard = Process(), list[Report]()
    outcome = worker.run(task(home), heard.append, lambda: bool(heard))
    worker.close()
    assert outcome.kind == "cancelled"
    assert heard[0] == Report("measuring the machine", 0, 0)


def test_what_is_stopped_while_it_imports_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stopped_half_way.py").write_text(
        "from wanrun.runtime.interrupt import Cancelled\nraise Cancelled\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(Cancelled) as half:
        import_module("stopped_half_way")
    assert imports(half.value)
    with pytest.raises(Cancelled) as whole:
        raise Cancelled
    assert not imports(whole.value)


def test_a_worker_that_was_stopped_early_goes_on_or_ends(home: Path) -> None:
    keep(home, "cpu")
    worker, asked = Process(), 0

    def soon() -> bool:
        nonlocal asked
        asked += 1
        return asked > 8  # some tenths of a second: torch is being imported

    assert worker.run(task(home), lambda report: None, soon) == Outcome("cancelled")
    try:
        if worker.run(task(home), lambda report: None, lambda: False).kind == "died":
            assert not worker.alive
    finally:
        worker.close()
