"""``wanrun batch`` as a user types it, in real processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.bundles import Parts, make_parts
from tests.runtime.machines import keep
from tests.server.serving import serving

_SHOTS = """
model: tiny
steps: 2
shots:
- a red ball
- {prompt: a star, name: star, matrix: {seed: [1, 2]}}
"""
#: Two videos of many steps, to be stopped among them.
_LONG = "model: tiny\nsteps: 30\nmatrix: {seed: [1, 2]}\nprompt: a ring\n"


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return make_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture
def folder(parts: Parts, tmp_path: Path, home: Path) -> Path:
    """A working folder of a user who has the model ``tiny``, on a machine that was measured."""
    keep(home)
    path = tmp_path / "work"
    path.mkdir()
    wanrun("create", "tiny", "-f", str(parts.modelfile), cwd=path)
    return path


def started(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "wanrun.cli", *arguments],
        cwd=cwd, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        # a suite that a script runs in the background ignores interrupts, and so would its children
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def wanrun(*arguments: str, cwd: Path, code: int = 0) -> tuple[str, str]:
    """Both outputs of a command that exits with ``code``."""
    process = started(*arguments, cwd=cwd)
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, err
    assert "Traceback" not in err
    return out, err


def write(folder: Path, shots: str) -> None:
    (folder / "shots.yaml").write_text(shots, "utf-8")


def videos(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "shots").glob("*.mp4")}


def test_shots_become_videos_a_sheet_and_a_page_once(folder: Path, home: Path) -> None:
    write(folder, _SHOTS)
    out, err = wanrun("batch", "shots.yaml", cwd=folder)
    made = videos(folder)
    assert sorted(name.rpartition("-")[0] for name in made) == ["a-red-ball", "star", "star"]
    assert {name.rpartition("-")[0] for name in made} == {"a-red-ball", "star"}
    assert out.splitlines()[-1] == "3 videos: 3 made. shots/index.html"
    assert "[2/3] a star" in err
    assert "encoding prompts: 3/3" in err
    page = (folder / "shots" / "index.html").read_text("utf-8")
    assert all(name in page for name in made)
    assert (folder / "shots" / "sheet.png").stat().st_size > 500
    assert not list((home / "runs").iterdir())
    # parts that stay open change no pixel and no word of the provenance
    wanrun("run", "tiny", "a star", "--steps", "2", "--seed", "2", "-o", "alone.mp4", cwd=folder)
    assert (folder / "alone.mp4").read_bytes() in made.values()
    lost = min(made)
    (folder / "shots" / lost).unlink()
    write(folder, _SHOTS.replace("a star", "a Star").replace("[1, 2]", "[1]"))
    out, _ = wanrun("batch", "shots.yaml", cwd=folder)
    assert out.splitlines()[-1] == "2 videos: 2 made. shots/index.html"
    again = videos(folder)
    assert again[lost] == made[lost]
    assert len(again) == 4
    out, err = wanrun("batch", "shots.yaml", cwd=folder)
    assert out == "2 videos: 0 made, 2 were there. shots/index.html\n"
    assert "denoising" not in err


def test_one_that_fails_does_not_stop_the_others(folder: Path) -> None:
    write(
        folder,
        "model: tiny\nsteps: 1\nshots:\n- {prompt: <b>x</b>, size: 4096x4096, frames: 1025}\n- a star\n",
    )
    out, err = wanrun("batch", "shots.yaml", cwd=folder, code=1)
    assert out.splitlines()[-1] == "2 videos: 1 made, 1 failed. shots/index.html"
    assert "Error: [1/2] this run needs" in err
    page = (folder / "shots" / "index.html").read_text("utf-8")
    assert "Failed: this run needs" in page
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert len(videos(folder)) == 1


def test_an_interrupted_batch_continues_where_it_was(folder: Path, home: Path) -> None:
    write(folder, _LONG)
    wanrun("batch", "shots.yaml", "-o", "whole", cwd=folder)
    whole = {path.name: path.read_bytes() for path in (folder / "whole").glob("*.mp4")}
    process = started("batch", "shots.yaml", cwd=folder)
    while not list((home / "runs").glob("*/velocity-00010")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "run the same command again" in err
    (run,) = (home / "runs").iterdir()
    kept = {path.name: path.stat().st_mtime_ns for path in run.glob("velocity-*")}
    assert len(kept) >= 10
    assert len(videos(folder)) in (0, 1)
    assert "Not made yet" in (folder / "shots" / "index.html").read_text("utf-8")
    process = started("batch", "shots.yaml", cwd=folder)
    newest = max(kept)
    while process.poll() is None and (run / newest).exists():
        assert (run / newest).stat().st_mtime_ns == kept[newest]  # what was there is not computed again
        time.sleep(0.01)
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert videos(folder) == whole
    assert not list((home / "runs").iterdir())


def test_what_there_is_to_make_is_listed_and_told_as_json(folder: Path) -> None:
    write(folder, _SHOTS)
    out, _ = wanrun("batch", "shots.yaml", "--plan", cwd=folder)
    assert out.splitlines()[-1] == "3 of 3 videos to make"
    assert out.count("to do") == 3
    assert not (folder / "shots").exists()
    out, err = wanrun("batch", "shots.yaml", "--json", "--format", "gif", "-o", "out/there", cwd=folder)
    told = [json.loads(line) for line in out.splitlines()]
    assert [each["request"]["seed"] for each in told] == [0, 1, 2]
    assert all(Path(each["path"]).parent == folder / "out" / "there" for each in told)
    assert err == "3 videos: 3 made. out/there/index.html\n"


@pytest.mark.parametrize(
    ("shots", "reason"),
    [
        ("a: &x [1]\nb: *x", "line 2, column 4: the alias *x is not read"),
        ("model: tiny\nshots: [{prompt: x, name: ../../x}]", "a name has letters"),
        ("model: no-such-model\nprompt: x", "no-such-model"),
        ("model: tiny\nprompt: x\nsteps: 0", "steps must be"),
    ],
)
def test_mistakes_are_one_clear_error_and_make_nothing(shots: str, reason: str, folder: Path) -> None:
    write(folder, shots)
    out, err = wanrun("batch", "shots.yaml", cwd=folder, code=1)
    assert out == ""
    assert err.startswith("Error: ")
    assert reason in err
    assert [path.name for path in folder.iterdir()] == ["shots.yaml"]


def test_a_server_that_has_the_model_makes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tmp_path) as server:
        monkeypatch.setenv("WANRUN_HOST", f"127.0.0.1:{server.port}")
        monkeypatch.setenv("WANRUN_HOME", str(server.home))
        monkeypatch.setenv("WANRUN_DEVICE", "cpu")
        (tmp_path / "shots.yaml").write_text(
            "model: wan-toy\nsteps: 2\nsize: 32x32\nframes: 5\nguidance: 2\nshots: [a ball, a star]"
        )
        out, _ = wanrun("batch", "shots.yaml", cwd=tmp_path)
        assert out.splitlines()[-1] == "2 videos: 2 made. shots/index.html"
        with httpx.Client(base_url=server.url, timeout=60) as client:
            jobs = client.get("/v1/videos").json()["data"]
        assert sorted(job["prompt"] for job in jobs) == ["a ball", "a star"]
    by_server = videos(tmp_path)
    monkeypatch.setenv("WANRUN_HOST", "127.0.0.1:0")
    wanrun("batch", "shots.yaml", "-o", "here/shots", cwd=tmp_path)
    assert videos(tmp_path / "here") == by_server
