"""Runs that are killed at any moment and continued make the same video, byte for byte."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from tests.bundles import Parts, make_parts
from tests.runtime.machines import keep

_RUN = ["run", "tiny", "a red ball", "--steps", "12", "--seed", "3", "-o", "out.mp4"]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return make_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, parts: Parts) -> Path:
    home = tmp_path_factory.mktemp("home")
    keep(home)
    done(home, home, "create", "tiny", "-f", str(parts.modelfile))
    return home


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, home: Path) -> bytes:
    """The video of a run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    done(home, folder, *_RUN)
    assert not list((home / "runs").iterdir())
    return (folder / "out.mp4").read_bytes()


def started(home: Path, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "wanrun.cli", *arguments],
        cwd=folder, env=os.environ | {"WANRUN_HOME": str(home)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        # a suite that a script runs in the background ignores interrupts, and so would its children
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def done(home: Path, folder: Path, *arguments: str) -> str:
    process = started(home, folder, *arguments)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def stop_after(process: subprocess.Popen[str], home: Path, file: str, by: signal.Signals) -> str:
    """Send the signal once the run has written ``file``; returns the run's id."""
    for _ in range(30_000):
        found = list((home / "runs").glob(f"*/{file}"))
        if found:
            break
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    process.send_signal(by)
    return found[0].parent.name


def test_a_killed_run_continues_to_the_same_bytes(home: Path, whole: bytes, tmp_path: Path) -> None:
    rng = random.Random(1)
    process = started(home, tmp_path, *_RUN)
    run_id = stop_after(process, home, "velocity-00000", signal.SIGKILL)
    process.communicate()
    for step in sorted(rng.sample(range(2, 11), 2)):  # killed again and again
        process = started(home, tmp_path, "run", "--resume", run_id, "-o", "out.mp4")
        assert stop_after(process, home, f"velocity-{step:05d}", signal.SIGKILL) == run_id
        process.communicate()
    assert not (tmp_path / "out.mp4").exists()
    done(home, tmp_path, "run", "--resume", run_id, "-o", "out.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == whole
    assert not list((home / "runs").iterdir())


def test_ctrl_c_says_how_to_continue(home: Path, whole: bytes, tmp_path: Path) -> None:
    process = started(home, tmp_path, *_RUN)
    run_id = stop_after(process, home, "velocity-00003", signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"wanrun run --resume {run_id}" in err
    assert "Traceback" not in err
    done(home, tmp_path, "run", "--resume", run_id, "-o", "out.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == whole


def test_latents_outlive_a_decode_that_fails(home: Path, whole: bytes, tmp_path: Path) -> None:
    process = started(home, tmp_path, *_RUN)
    run_id = stop_after(process, home, "latents.safetensors", signal.SIGKILL)
    process.communicate()
    latents = home / "runs" / run_id / "latents.safetensors"
    done(home, tmp_path, "decode", str(latents), "-o", "by-file.mp4")
    done(home, tmp_path, "decode", run_id, "-o", "by-id.mp4")
    for velocity in latents.parent.glob("velocity-*"):  # the sampling is not repeated
        velocity.unlink()
    done(home, tmp_path, "run", "--resume", run_id, "-o", "out.mp4")
    for name in ("by-file.mp4", "by-id.mp4", "out.mp4"):
        assert (tmp_path / name).read_bytes() == whole


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "--resume", "00000000"], 1, "no interrupted run"),
        (["run", "--resume", "../../etc"], 1, "no interrupted run"),
        (["run", "tiny", "--resume", "00000000"], 2, "no model"),
        (["run", "--resume", "00000000", "--steps", "3"], 2, "settings"),
        (["run"], 2, "which model"),
        (["decode", "nothing-here"], 1, "no interrupted run"),
    ],
)
def test_what_cannot_continue_says_why(
    home: Path, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    process = started(home, tmp_path, *arguments)
    _, err = process.communicate(timeout=120)
    assert process.returncode == code
    assert message in err
    assert "Traceback" not in err
