"""Prompts that nobody should send: each gives a reading, and in time."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.prompts.test_english import check
from tests.text.corpus import ODD
from wanrun.errors import InvalidRequest
from wanrun.prompts.choices import fill
from wanrun.prompts.markup import escape, parse
from wanrun.prompts.reading import read

LONG = 100_000
HOSTILE = (
    "",
    " \n\t ",
    "🐈🐕‍🦺👩‍👩‍👧‍👦",
    "\x00a red\x00 ball\x1b[31m\x07\x7f",
    "a \u202ered ball\u202c \u2066and\u2069 \u200fa cube\ufeff",
    "{{ prompt }} {% for x in y %} ${{ 7 * 7 }} %s {0} <script>alert(1)</script> `ls` $(ls) \\",
    "a red ball " * (LONG // 11),
    "a" * LONG,
    "红球在蓝色方块的左边" * (LONG // 10),
    "," * LONG,
    "of " * (LONG // 3),
    "and a very big, red " * (LONG // 20),
    "\ud800 lone surrogate",
    *ODD,
)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_anything_is_read(text: str) -> None:
    check(read(text))


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_escaped_is_text(text: str) -> None:
    escaped = escape(text)
    assert fill(escaped, 0, {}) == escaped
    marked = parse(escaped)
    assert (marked.text, marked.weights) == (text, ())


@pytest.mark.parametrize(
    "text",
    [
        "(" * LONG,
        ")" * LONG,
        "(" * (LONG // 2) + ")" * (LONG // 2),
        "(a:1.1)" * (LONG // 7),
        "(" * 1000 + "a" + ":1.0)" * 1000,
        "[" * LONG,
        "[a|" * (LONG // 3),
        "|" * LONG,
        "\\" * LONG,
        "(a:" + "9" * LONG,
        "[a|b" * 10 + "]" * LONG,
    ],
    ids=range(11),
)
def test_marks_in_masses(text: str) -> None:
    parse(text)
    fill(text, 0, {})


def test_nesting_and_growth_have_an_end() -> None:
    for endless in ({"a": ["$b"], "b": ["$a"]}, {"a": ["[x $a | y $a]"]}):
        with pytest.raises(InvalidRequest, match="nested more than 16 deep"):
            fill("$a", 0, endless)
    letters = "abcdefghijklm"
    bomb = {one: [f"${two} " * 10] for one, two in pairwise(letters)} | {"m": ["x" * 100]}
    with pytest.raises(InvalidRequest, match="longer than 1000000"):
        fill("$a", 0, bomb)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.sampled_from("a1.: ()[]|$_\\红的在\n"), max_size=60))
def test_marks_in_any_order(text: str) -> None:
    try:
        marked = parse(fill(text, 1, {"a": ["b"], "a1": ["c", "(d:2)"]}))
    except InvalidRequest:
        return
    check(read(marked.text))
    ends = [0, *(each.end for each in marked.weights)]
    for each, before in zip(marked.weights, ends, strict=False):
        assert before <= each.start < each.end <= len(marked.text)
        assert each.weight != 1
