"""``wanrun run MODEL`` as somebody at a terminal uses it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import done
from tests.cli.terminal import CTRL_D, Terminal, terminal
from tests.runtime.machines import keep
from wanrun.cli.chosen import Chosen
from wanrun.errors import InvalidRequest
from wanrun.store import pulling
from wanrun.store.creation import quiet, resolve
from wanrun.store.store import Store

_QUICK = ("--steps", "1", "--frames", "5", "--size", "32x32", "--seed", "3")


@pytest.fixture(autouse=True)
def toy(home: Path) -> Store:
    """The home has wan-toy, on a machine that was measured."""
    keep(home)
    store = Store(home)
    pulling.pull(store, "wan-toy", quiet)
    return store


@pytest.fixture
def prompt(home: Path, tmp_path: Path) -> Iterator[Terminal]:
    """A terminal that asks for a prompt, in the folder ``tmp_path``."""
    with terminal("run", "wan-toy", *_QUICK, cwd=tmp_path) as opened:
        opened.until(">>> ")
        yield opened


def test_bad_words_are_answered_and_change_nothing(prompt: Terminal) -> None:
    """Each is said as the flag would say it, and the prompt comes back."""
    before = prompt.answer("/set").partition("\n")[2]
    for line, words in {
        "/set steps 0": "steps must be a whole number from 1 to 1000 (steps), not '0'",
        "/set parameter seed -1": "seed must be",
        "/set size 1e9x7": "size must be",
        "/set width wide": "size must be",
        "/set shift nan": "shift must be",
        "/set sampler eulre": "eulre",
        "/set decoder nothing": "nothing",
        "/set stpes 3": "did you mean 'steps'?",
        "/set seconds soon": "not a valid float",
        "/set seconds inf": "seconds must be above 0",
        "/set lora none.safetensors": "no such file",
        "/set __class__ 1": "unknown parameter",
        "/show ../../etc/passwd": "to show, not",
        "/show everything": "to show, not",
        "/nothing": "there is no command /nothing",
        "/../bye": "there is no command",
        '""""""': "the prompt is empty",
    }.items():
        answer = prompt.answer(line)
        assert words in answer, line
        assert "Error: " in answer, line
        assert "Traceback" not in answer
    assert "\x1b]0;" not in prompt.answer("/x\x1b]0;title\x07").partition("Error: ")[2]
    for nothing in ("", "   "):
        assert "Error" not in prompt.answer(nothing)
    prompt.answer(b"a ball \xff\xfe")  # whatever comes of it, it is no end
    assert prompt.answer("/set").partition("\n")[2] == before
    prompt.interrupt()
    assert "To end: Ctrl-D or /bye." in prompt.until(">>> ")
    prompt.type('"""half a prompt\n')
    prompt.until("... ")
    prompt.interrupt()
    prompt.until(">>> ")
    prompt.type(CTRL_D)
    assert prompt.end() == 0


def test_videos_are_made_with_settings_that_stay(prompt: Terminal, tmp_path: Path) -> None:
    assert "/bye" in prompt.answer("/?") == prompt.answer("/?")
    assert "32x32, 5 frames, seed 3" in prompt.answer("A red ball!")
    assert (tmp_path / "a-red-ball-3.mp4").stat().st_size > 0
    prompt.answer("/set seed 4")
    prompt.answer("/set width 48")
    prompt.answer('/set negative "blurred, dark"')
    listed = prompt.answer("/set")
    for row in ("seed", "48x32", "blurred, dark"):
        assert row in listed
    prompt.type('"""/a red\n')
    prompt.until("... ")
    assert "a-red-ball-4.mp4  (48x32, 5 frames, seed 4" in prompt.answer('ball"""')
    prompt.type("/bye\n")
    assert prompt.end() == 0


def test_an_interrupted_video_comes_back_to_the_prompt(prompt: Terminal, tmp_path: Path) -> None:
    prompt.answer("/set steps 1000")
    prompt.type("a red ball\n")
    prompt.until("denoising")
    prompt.interrupt()
    prompt.until(">>> ")
    assert not list(tmp_path.glob("*.mp4"))
    assert "steps" in prompt.answer("/set")


def test_the_model_is_shown_as_the_command_shows_it(prompt: Terminal) -> None:
    for part in ("info", "parameters", "modelfile", "license", "system", "template"):
        words = ("show", "wan-toy") if part == "info" else ("show", "wan-toy", f"--{part}")
        answer = prompt.answer(f"/show {part}").replace("\r\n", "\n")
        assert answer.partition("\n")[2].removesuffix(">>> ") == done(*words)
    assert prompt.answer("/show").partition("\n")[2] == prompt.answer("/show info").partition("\n")[2]


def test_what_asks_for_no_prompt(tmp_path: Path) -> None:
    """One file cannot hold many videos, and a mistake in a flag or the model's name comes first."""
    for more, words in {
        ("wan-toy", "-o", "x.mp4"): "say what the video shows",
        ("no-such-model",): "no-such-model",
        ("wan-toy", "--steps", "0"): "steps must be",
    }.items():
        with terminal("run", *more, cwd=tmp_path) as opened:
            opened.until(words)
            assert opened.end() != 0


def test_settings_one_after_the_other(toy: Store) -> None:
    """The last of frames and seconds counts; nothing is the model's own again."""
    chosen = Chosen(resolve(toy, "wan-toy"), {"steps": None, "frames": 5})
    own = dict(Chosen(resolve(toy, "wan-toy"), {}).rows())
    chosen.put("seconds", "0.5")
    assert chosen.asked == {"seconds": 0.5}
    assert "frames" not in dict(chosen.rows())
    chosen.put("FRAMES", "9")
    assert chosen.asked == {"frames": 9}
    chosen.put("guidance-high", "2")
    chosen.put("negative_prompt", '""')
    assert chosen.asked == {"frames": 9, "guidance_high": 2.0, "negative": ""}
    chosen.put("height", "96")
    assert chosen.asked["size"][1] == 96
    with pytest.raises(InvalidRequest, match="seed must be"):
        chosen.put("seed", "x")
    for name in ("frames", "guidance_high", "negative", "height"):
        chosen.put(name, "")
    assert chosen.asked == {}
    assert dict(chosen.rows()) == own
