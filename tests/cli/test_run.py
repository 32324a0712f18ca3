"""``wanrun run`` as a user types it, in real processes."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import av
import pytest

from tests.bundles import Parts, make_parts
from tests.runtime.machines import keep

_QUICK = ["--steps", "2", "--seed", "3"]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return make_parts(tmp_path_factory.mktemp("parts"))


def wanrun(*arguments: str, cwd: Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, in the folder ``cwd``."""
    return subprocess.run(
        [sys.executable, "-m", "wanrun.cli", *arguments],
        cwd=cwd, input=text, capture_output=True, text=True, timeout=120, check=False,
        stdin=subprocess.DEVNULL if text is None else None,
    )  # fmt: skip


@pytest.fixture
def folder(parts: Parts, tmp_path: Path, home: Path) -> Path:
    """A working folder of a user who has the model ``tiny``, on a machine that was measured."""
    keep(home)
    path = tmp_path / "work"
    path.mkdir()
    made = wanrun("create", "tiny", "-f", str(parts.modelfile), cwd=path)
    assert made.returncode == 0, made.stderr
    return path


def test_a_prompt_becomes_an_mp4_named_after_it(folder: Path) -> None:
    result = wanrun("run", "tiny", "A red ball, bouncing!", *_QUICK, cwd=folder)
    assert result.returncode == 0, result.stderr
    path = folder / "a-red-ball-bouncing-3.mp4"
    assert result.stdout.startswith(f"{path}  (32x32, 9 frames, seed 3")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert (stream.width, stream.height, float(stream.average_rate or 0)) == (32, 32, 8.0)
        assert sum(1 for _ in container.decode(video=0)) == 9
    for phase in ("reading the prompt: 2/2", "denoising: 2/2", "decoding: 9/9"):
        assert phase in result.stderr
    again = wanrun("run", "tiny", "A red ball, bouncing!", *_QUICK, cwd=folder)
    assert again.stdout.startswith(str(folder / "a-red-ball-bouncing-3-2.mp4"))
    assert (folder / "a-red-ball-bouncing-3-2.mp4").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("kind", ["webm", "gif", "png"])
def test_other_formats_and_json(kind: str, folder: Path) -> None:
    result = wanrun(
        "run", "tiny", "-o", f"out.{kind}", "--frames", "1", "--json", *_QUICK, cwd=folder, text="a ring\n"
    )
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert Path(told["path"]).name == f"out.{kind}"
    assert Path(told["path"]).stat().st_size > 0
    assert told["request"]["prompt"] == "a ring"
    assert told["request"]["frames"] == 1
    assert result.stderr == ""


def test_what_is_rounded_is_said(folder: Path) -> None:
    result = wanrun("run", "tiny", "a ring", "--size", "50x30", "--seconds", "0.5", *_QUICK, cwd=folder)
    assert "size 50x30 becomes 48x32" in result.stderr
    assert "4 frames become 5" in result.stderr
    assert "48x32, 5 frames" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["no-such-model", "x"], 1, "no-such-model"),
        (["../../etc/passwd", "x"], 1, "name"),
        (["tiny", ""], 1, "prompt is empty"),
        (["tiny", "x", "--steps", "0"], 2, "steps"),
        (["tiny", "x", "--size", "1e9x7"], 2, "size"),
        (["tiny", "x", "--seed", "-1"], 2, "seed"),
        (["tiny", "x", "--shift", "nan"], 2, "shift"),
        (["tiny", "x", "--sampler", "eulre"], 1, "eulre"),
        (["tiny", "x", "--decoder", "tiny"], 1, "PREVIEW"),
        (["tiny", "x", "--frames", "5", "--seconds", "1"], 1, "not both"),
        (["tiny", "x", "--seconds", "inf"], 1, "seconds"),
        (["tiny", "x", "--device", "warp9"], 1, "warp9"),
        (["tiny", "x", "-o", "no/such/folder/x.mp4"], 1, "no/such/folder"),
        (["tiny", "x", "-o", "x.avi"], 1, "avi"),
        (["tiny", "x", "--memory", "8 potatoes"], 2, "512MB"),
        (["tiny", "x", "--memory", "-1"], 2, "512MB"),
        (["tiny", "x", "--memory", "0"], 2, "above 0"),
        (["tiny", "x", "--memory", "1MB"], 1, "free some memory"),
    ],
)
def test_mistakes_are_one_clear_line_and_leave_nothing(
    arguments: list[str], code: int, reason: str, folder: Path
) -> None:
    result = wanrun("run", *arguments, cwd=folder)
    assert result.returncode == code, result.stderr
    assert reason in result.stderr
    assert "Traceback" not in result.stderr
    assert list(folder.iterdir()) == []


def test_a_terminal_gets_a_bar_per_phase(folder: Path) -> None:
    main, side = pty.openpty()
    command = [sys.executable, "-m", "wanrun.cli", "run", "tiny", "a ring", "-o", "x.gif", *_QUICK]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    process = subprocess.Popen(command, cwd=folder, stdin=side, stdout=side, stderr=side, env=environment)
    os.close(side)
    shown = b""
    while True:
        try:
            chunk = os.read(main, 65536)
        except OSError:  # how a terminal says that the other side is gone
            break
        if not chunk:
            break
        shown += chunk
    os.close(main)
    assert process.wait(timeout=60) == 0
    for phase in (b"reading the prompt", b"denoising", b"decoding"):
        assert phase in shown
    assert "━".encode() in shown
