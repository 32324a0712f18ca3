"""What a seed fills in: alternatives, lists and variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from wanrun.errors import InvalidRequest
from wanrun.prompts.choices import fill, load_words, uses_words

WORDS = {"animals": ["cat", "dog", "fox"], "hero": ["a tall knight"], "coat": ["[red | green] coat"]}


def test_one_alternative_is_chosen_by_the_seed() -> None:
    found = {fill("a [red | green | blue] ball", seed, {}) for seed in range(40)}
    assert found == {"a red ball", "a green ball", "a blue ball"}
    assert len({fill("a [red | green | blue] ball", 7, {}) for _ in range(5)}) == 1


def test_every_alternative_is_as_likely() -> None:
    seeds = 3000
    count = sum(fill("[a|b|c]", seed, {}) == "a" for seed in range(seeds))
    assert abs(count / seeds - 1 / 3) < 0.04  # four and a half standard deviations


def test_alternatives_hold_others_and_may_be_empty() -> None:
    found = {fill("a [[dark | light] red | blue |] ball", seed, {}) for seed in range(60)}
    assert found == {"a dark red ball", "a light red ball", "a blue ball", "a  ball"}


def test_choices_do_not_depend_on_each_other() -> None:
    found = {fill("[a|b] [c|d]", seed, {}) for seed in range(40)}
    assert found == {"a c", "a d", "b c", "b d"}


@pytest.mark.parametrize(
    "text",
    ["a [red] ball", r"a \[red | blue\] ball", "a | b", "] [", "$5 and 3$", "snake_case __ ___", "a__b"],
)
def test_what_is_no_choice_is_text(text: str) -> None:
    assert fill(text, 3, {}) == text


def test_a_list_is_drawn_each_time_and_a_variable_once() -> None:
    drawn = {fill("__animals__ and __animals__", seed, WORDS) for seed in range(60)}
    assert "cat and dog" in drawn
    assert "cat and cat" in drawn
    for seed in range(20):
        one, two = fill("$animals and ${animals}", seed, WORDS).split(" and ")
        assert one == two
    assert {fill("$animals", seed, WORDS) for seed in range(20)} == set(WORDS["animals"])
    assert {fill("$hero in a $coat", seed, WORDS) for seed in range(20)} == {
        "a tall knight in a red coat",
        "a tall knight in a green coat",
    }


def test_weights_and_escapes_stay() -> None:
    assert fill(r"(a [x]:1.3) \$hero \__animals__", 0, WORDS) == r"(a [x]:1.3) \$hero \__animals__"


@pytest.mark.parametrize("text", ["$heroine", "__animal__", "${nobody}"])
def test_an_unknown_name_is_an_error_that_helps(text: str) -> None:
    assert uses_words(text)
    with pytest.raises(InvalidRequest, match=r"did you mean|no YAML file"):
        fill(text, 0, WORDS)


def test_words_come_from_yaml_files(tmp_path: Path) -> None:
    assert load_words(tmp_path / "none") == {}
    (tmp_path / "animals.yaml").write_text("- cat\n- dog\n")
    (tmp_path / "more.yml").write_text("hero: a tall knight\nyears: [1920, 1980]\n", "utf-8")
    assert load_words(tmp_path) == {
        "animals": ("cat", "dog"),
        "hero": ("a tall knight",),
        "years": ("1920", "1980"),
    }


@pytest.mark.parametrize(
    "content",
    [b"a: {b: c}", b"a: []", b"'two words': x", b"a: [[b]]", b"just text", b"a: !!python/name:os.system x",
     b"\xff\xfe\x00", b"[" * 2000, b"a: " + b"x" * (5 << 20), b"a: *b"],
    ids=range(10),
)  # fmt: skip
def test_a_file_that_is_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.yaml").write_bytes(content)
    with pytest.raises(InvalidRequest, match=r"bad\.yaml"):
        load_words(tmp_path)
