"""Long texts in parts: nothing is lost, each fits, and they end where the text does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanrun.prompts.clauses import split


def words(text: str) -> int:
    return len(text.split())


def test_a_short_text_is_one_part() -> None:
    assert split("a red ball.", words, 8) == ["a red ball."]
    assert split("", words, 8) == [""]


def test_sentences_stay_whole_where_they_fit() -> None:
    text = "A red ball bounces. A blue cube rolls. The sky is grey."
    assert split(text, words, 8) == ["A red ball bounces. A blue cube rolls. ", "The sky is grey."]


def test_a_sentence_that_does_not_fit_is_split_at_commas() -> None:
    text = "A red ball bounces on a table, a blue cube rolls over the floor, the sky is grey"
    assert split(text, words, 8) == [
        "A red ball bounces on a table, ",
        "a blue cube rolls over the floor, ",
        "the sky is grey",
    ]


def test_without_any_boundary_it_is_split_somewhere() -> None:
    parts = split("红" * 100, len, 30)
    assert "".join(parts) == "红" * 100
    assert max(map(len, parts)) <= 30


@pytest.mark.parametrize(
    "text", ["红球在蓝色方块的左边" * 10_000, "a" * 100_000, "word " * 20_000, "," * 100_000]
)
def test_a_text_without_end_is_split_in_few_steps(text: str) -> None:
    asked = 0

    def count(part: str) -> int:
        nonlocal asked
        asked += len(part)
        return len(part.encode())

    parts = split(text, count, 512)
    assert "".join(parts) == text
    assert max(len(part.encode()) for part in parts) <= 512
    assert len(parts) <= len(text.encode()) // 500 + 1
    assert asked < 100 * len(text)


@pytest.mark.parametrize("count", [words, lambda text: len(text.encode())])
@given(text=st.text(alphabet=st.sampled_from("ab ,.。，\n"), max_size=200))
def test_nothing_is_lost_and_every_part_fits(count: object, text: str) -> None:
    assert callable(count)
    parts = split(text, count, 9)
    assert "".join(parts) == text
    assert all(count(part) <= 9 for part in parts)
