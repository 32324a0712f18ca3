"""What is done with what an expander returns: kept, escaped, replaced, remembered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wanrun.prompts import template
from wanrun.prompts.markup import parse
from wanrun.text.expansion import LONGEST, Expansion, ExpansionCache, expand
from wanrun.types import Expander

PROMPT = "a (red ball:1.4) bouncing"


def returns(said: str) -> Expander:
    """An expander that says this, whatever it is asked."""

    def expander(text: str, seed: int, brief: str, model: Path | None) -> str:
        return said

    return expander


def test_an_expander_is_given_plain_text_and_the_weights_come_back() -> None:
    asked: list[tuple[str, int, str, Path | None]] = []

    def expander(text: str, seed: int, brief: str, model: Path | None) -> str:
        asked.append((text, seed, brief, model))
        return "on a table, a shiny red ball bouncing"

    # "shiny" stands between the article and the words that belong together, and these are still together
    found = expand(PROMPT, 7, "be brief", expander, Path("model.gguf"))
    assert asked == [("a red ball bouncing", 7, "be brief", Path("model.gguf"))]
    assert found == Expansion("on a table, a shiny (red ball:1.4) bouncing")


def test_marks_of_an_expander_are_text() -> None:
    said = "a red ball bouncing, (huge:5) [a|b] $name __list__ {{ prompt }} \\"
    found = expand(PROMPT, 0, "", returns(said), None)
    marked = parse(found.prompt)
    assert marked.text == said
    assert [(marked.text[each.start : each.end], each.weight) for each in marked.weights] == [
        ("red ball", 1.4)
    ]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("", "lost 'red'"),
        ("a ball bouncing", "lost 'red'"),
        ("a red shiny ball bouncing", "tore 'red ball' apart"),
        ("a red ball bouncing, a green ball", "became"),
        ("not a red ball bouncing", "says no"),
        ("a red ball " + "x" * (LONGEST + 100) + " bouncing", "lost 'bouncing'"),
    ],
)
def test_what_is_not_faithful_becomes_the_templates(said: str, why: str) -> None:
    found = expand(PROMPT, 3, "", returns(said), None)
    assert parse(found.prompt).text == template.expand("a red ball bouncing", 3)
    assert "(red ball:1.4)" in found.prompt
    assert why in found.notes[0]


def test_hostile_answers_are_clean() -> None:
    said = "a red ball bouncing\x00\x1b[2J\u202e on\na table\ufeff"
    assert (
        expand("a red ball bouncing", 0, "", returns(said), None).prompt
        == r"a red ball bouncing\[2J on a table"
    )


@pytest.mark.parametrize("prompt", ["", "🐈🐕", "a" * 100_000, "{{ prompt }} %s", "\x00\u202e", "红" * 1000])
def test_hostile_prompts_are_expanded_or_left_alone(prompt: str) -> None:
    found = expand(prompt, 0, "", template.expand, None)
    assert found.notes == ()
    assert len(found.prompt) <= 2 * len(prompt) + LONGEST


def test_the_cache_gives_back_what_it_was_given(tmp_path: Path) -> None:
    cache = ExpansionCache(tmp_path / "expansions")
    path = cache.path("template", "", 7, "a \ud800 ball")
    assert cache.read(path) is None
    kept = Expansion("a (red:1.2) ball 红", ("a note",))
    cache.write(path, kept)
    assert cache.read(path) == kept
    assert cache.path("template", "", 8, "a \ud800 ball") != path
    for damaged in ("", "{", "[]", json.dumps({"prompt": 3, "notes": []}), json.dumps({"prompt": "a"})):
        path.write_text(damaged)
        assert cache.read(path) is None


def test_a_cache_that_cannot_be_written_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = ExpansionCache(tmp_path / "file" / "expansions")
    cache.write(cache.path("a"), Expansion("b"))
    assert cache.read(cache.path("a")) is None
