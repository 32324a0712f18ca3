"""``wanrun prompt``: what a prompt is read as."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tests.cli.conftest import done, refused
from wanrun.cli.main import main

TEXT = "two (red:1.3) balls left of a blue cube on a white surface, both bouncing up and down"


def test_the_parts_of_a_prompt_are_listed() -> None:
    lines = [line.split() for line in done("prompt", TEXT).splitlines()]
    assert ["balls", "red", "×2", "thing"] in lines
    assert ["surface", "white", "place"] in lines
    assert ["bouncing", "up", "and", "down", "balls,", "cube"] in lines
    assert ["balls", "left", "of", "cube"] in lines
    assert ["red", "1.3"] in lines
    assert any(line[1:4] == ["tokens", "of", "wan-toy;"] for line in lines)


def test_json_has_positions_and_tokens() -> None:
    found = json.loads(done("prompt", "--json", TEXT))
    assert found["text"] == TEXT.replace("(red:1.3)", "red")
    (weight,) = found["weights"]
    assert found["text"][weight["start"] : weight["end"]] == "red"
    assert [item["noun"] for item in found["objects"]] == ["balls", "cube", "surface"]
    assert (found["limit"], found["parts"], found["cut"]) == (512, [found["text"]], "")


def test_on_a_terminal_the_parts_are_coloured() -> None:
    result = CliRunner().invoke(main, ["prompt", "a red ball on a table\x1b[31m"], color=True)
    assert click.style("a red ball", fg="cyan") in result.output
    assert click.style("on", fg="magenta") in result.output
    assert "\x1b[31m" not in result.output  # what the prompt brings is shown, not obeyed
    assert "\x1b" not in done("prompt", "a red ball")


def test_a_long_prompt_says_in_which_parts_it_is_read_and_what_is_cut() -> None:
    sentence = "A red ball bounces on a blue surface, and a green cube rolls along. "
    found = json.loads(done("prompt", "--json", sentence * 40))
    assert found["tokens"] > 512
    assert len(found["parts"]) > 1
    assert found["cut"] == ""
    assert all(part.rstrip().endswith((".", ",")) for part in found["parts"])
    shown = done("prompt", sentence * 400)
    assert "read in 8 parts" in shown
    assert "cut: " in shown


def test_the_seed_and_the_words_of_the_home_choose(home: Path) -> None:
    (home / "words").mkdir(parents=True)
    (home / "words" / "animals.yaml").write_text("[cat, dog]")
    texts = {
        json.loads(done("prompt", "--json", "--seed", str(seed), "a [big | small] __animals__"))["text"]
        for seed in range(30)
    }
    assert texts == {"a big cat", "a small cat", "a big dog", "a small dog"}
    assert "did you mean 'animals'" in refused("prompt", "a __animal__")


@pytest.mark.parametrize("text", ["", " \n", "(a:9)"])
def test_a_prompt_that_cannot_be_used_is_refused(text: str) -> None:
    assert "prompt is empty" in refused("prompt", text) or "weights are from" in refused("prompt", text)


@pytest.mark.parametrize("text", ["🐈🐕", "\ud800", "{{ prompt }} %s", "红色的球", "a \u202e b"])
def test_odd_prompts_are_shown(text: str) -> None:
    result = CliRunner().invoke(main, ["prompt", text])
    assert result.exit_code in (0, 1), result.output
    assert result.exit_code == 0 or "not valid Unicode" in result.output
    assert "\u202e" not in result.output
