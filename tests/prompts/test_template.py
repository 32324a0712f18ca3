"""The template expander: what it adds, what it leaves alone, and that it is the same each time."""

from __future__ import annotations

from pathlib import Path

import pytest

from wanrun.evaluate.toy import suite
from wanrun.modelfile import grammar
from wanrun.prompts.faithful import colours_of, problems
from wanrun.prompts.reading import read
from wanrun.prompts.slots import SLOTS, missing, slots
from wanrun.prompts.template import additions, expand

PROMPTS = (Path(__file__).parent / "prompts.txt").read_text("utf-8").splitlines()
TOY = Path(__file__).parents[2] / "modelfiles" / "wan-toy" / "Modelfile"


def test_there_are_a_hundred_prompts_in_two_languages() -> None:
    assert len(set(PROMPTS)) == 100
    assert sum(read(prompt).language == "zh" for prompt in PROMPTS) >= 20


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_a_hundred_prompts_keep_what_they_say_and_leave_nothing_open(seed: int) -> None:
    for prompt in PROMPTS:
        text = expand(prompt, seed)
        assert problems(prompt, text) == []
        assert text.startswith(prompt.rstrip(" .,;:。，；："))
        assert expand(prompt, seed) == text
        structure = read(prompt)
        added = additions(structure, seed, "")
        assert list(added) == missing(structure, slots(structure.language, ""))
        assert all(phrase in text for phrase in added.values())


def test_the_seed_chooses() -> None:
    texts = {expand("a cat", seed) for seed in range(20)}
    assert len(texts) > 15


def test_every_curated_phrase_is_known_to_fill_its_slot_and_brings_no_colour() -> None:
    for language in ("en", "zh"):
        subject = "a cat" if language == "en" else "一只猫"
        for name, slot in slots(language, "").items():
            for phrase in (*slot.add, *(each for listed in slot.variants.values() for each in listed)):
                assert colours_of(read(phrase)) == set()
                joined = f"{subject}, {phrase}" if language == "en" else f"{subject}，{phrase}"
                if name not in ("attributes", "action", "relations"):
                    assert name not in missing(read(joined), {name: slot}), phrase
                assert problems(subject, joined) == []


def test_what_a_prompt_says_is_not_said_again() -> None:
    full = (
        "a small red ball rolling next to a big cube in a garden, morning light, close-up shot, 35mm lens, "
        "anime style, happy mood"
    )
    assert expand(full, 3) == full
    said = additions(read("a cat at night, aerial shot"), 0, "")
    assert "camera" not in said
    assert said["light"] in slots("en", "")["light"].variants["night"]
    assert additions(read("two wolves fight"), 0, "")["mood"] in slots("en", "")["mood"].variants["dark"]


@pytest.mark.parametrize("text", ["", "  ", "🐈🐕", "!!!", "\x00"])
def test_what_has_no_words_is_left_alone(text: str) -> None:
    assert expand(text, 0) == text


def test_a_bundle_says_what_there_is_in_its_world() -> None:
    brief = "Moving shapes.\nslots: setting, light\nsetting: on a white floor | on a black floor\n"
    for seed in range(8):
        assert expand("a white ball", seed, brief).startswith("a white ball on a black floor, ")
    assert set(additions(read("a ball"), 0, brief)) == {"setting", "light"}
    assert expand("a ball", 0, "slots: none") == "a ball"
    assert list(slots("en", "no such lines")) == list(SLOTS)


def test_the_prompts_of_the_toy_suite_are_left_as_wan_toy_knows_them() -> None:
    """What wan-toy was not trained on can only confuse it: its brief names the slot that it understands."""
    brief = grammar.read(TOY).system or ""
    for asked in suite():
        assert expand(asked.prompt, asked.seed, brief) == asked.prompt
    assert expand("a red ball bouncing", 0, brief).startswith("a red ball bouncing on a ")
