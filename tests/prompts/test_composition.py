"""What a prompt is without the nouns of its objects."""

from __future__ import annotations

import pytest

from wanrun.evaluate.toy import suite
from wanrun.prompts.composition import without_heads
from wanrun.prompts.markup import parse


@pytest.mark.parametrize(
    ("prompt", "without"),
    [
        (
            "a purple square behind a red star on a grey backdrop, both rising",
            "a purple (square:0) behind a red (star:0) on a grey backdrop, both rising",
        ),
        ("a ball above a ball", "a (ball:0) above a (ball:0)"),
        ("a (red:1.3) ball and a blue cube", "a red (ball:0) and a blue (cube:0)"),
        ("一只红色的猫在一只蓝色的狗左边，草地上", "一只红色的(猫:0)在一只蓝色的(狗:0)左边，草地上"),
        ("a ball on a blue ground", ""),
        ("", ""),
        ("((((", ""),
    ],
)
def test_nouns_weigh_nothing(prompt: str, without: str) -> None:
    assert without_heads(prompt) == without


def test_every_pair_of_the_suite_is_found_and_nothing_else() -> None:
    for asked in suite():
        without = without_heads(asked.prompt)
        assert bool(without) == bool(asked.relation)
        if without:
            marked = parse(without)
            assert marked.text == asked.prompt
            assert [weight.weight for weight in marked.weights] == [0.0, 0.0]
