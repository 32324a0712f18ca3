"""Weights: what is one, what is text, and what the prompt reads without them."""

from __future__ import annotations

import pytest

from wanrun.errors import InvalidRequest
from wanrun.prompts.markup import Marked, Weight, marked, parse


def weighted(text: str) -> tuple[str, list[tuple[str, float]]]:
    found = parse(text)
    return found.text, [(found.text[each.start : each.end], round(each.weight, 6)) for each in found.weights]


@pytest.mark.parametrize(
    ("text", "plain", "weights"),
    [
        ("a (red:1.3) ball", "a red ball", [("red", 1.3)]),
        ("a (red ball:1.3) here", "a red ball here", [("red ball", 1.3)]),
        ("a ( red : 1.3 ) ball", "a red ball", [("red", 1.3)]),
        ("(a (red:2) ball:.5)", "a red ball", [("a", 0.5), ("ball", 0.5)]),
        ("(a (red:3) ball:0.5)", "a red ball", [("a", 0.5), ("red", 1.5), ("ball", 0.5)]),
        ("(red:0) ball", "red ball", [("red", 0.0)]),
        ("(red:1) ball", "red ball", []),
        ("a (red) ball", "a (red) ball", []),
        ("a ((red:2)) ball", "a (red) ball", [("red", 2.0)]),
        (r"a \(red:1.3\) ball", "a (red:1.3) ball", []),
        (r"a (\(red\):1.3) ball", "a (red) ball", [("(red)", 1.3)]),
        (r"a \\(red:1.3)", "a \\red", [("red", 1.3)]),
        (r"C:\new", r"C:\new", []),
        ("a smile :) (:", "a smile :) (:", []),
        ("(:1.3)", "(:1.3)", []),
        ("at 10:30 (noon)", "at 10:30 (noon)", []),
        ("(红色:1.3)的球", "红色的球", [("红色", 1.3)]),
        ("(a:2)(b:2)", "ab", [("ab", 2.0)]),
    ],
)
def test_weights(text: str, plain: str, weights: list[tuple[str, float]]) -> None:
    assert weighted(text) == (plain, weights)


@pytest.mark.parametrize("number", ["5.1", "-1", "30", "999999999"])
def test_a_weight_out_of_range_says_how_to_write_parentheses(number: str) -> None:
    with pytest.raises(InvalidRequest, match=r"0 to 5\. Write \\\( and \\\)"):
        parse(f"a (clock showing 10:{number})")


def test_a_prompt_without_weights_keeps_its_whitespace() -> None:
    assert parse("a  red\n ball ") == Marked("a  red\n ball ")


def test_marks_are_written_as_they_are_read() -> None:
    parts = Marked("a (red) ball [x|y] $z", (Weight(2, 7, 1.3), Weight(8, 12, 0.5)))
    assert parse(marked(parts)) == parts
