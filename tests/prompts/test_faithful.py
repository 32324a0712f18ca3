"""What counts as keeping a prompt's words, and what contradicts them."""

from __future__ import annotations

import pytest

from wanrun.prompts.faithful import lost_words, problems


@pytest.mark.parametrize(
    ("prompt", "expansion"),
    [
        ("a red ball", "A small red ball on a table"),
        ("a red ball", "a ball, red and shiny, a red ball"),
        ("two cats", "two grey cats with long tails, the cats sleep"),
        ("a cat on a red chair", "a black cat on a big red chair"),
        ("a red ball and a blue ball", "a red ball and a blue ball in a room"),
        ("一只橙色的猫", "一只橙色的猫在雪地里"),
        ("🐈 runs", "🐈 runs over a field"),
        ("", "anything"),
    ],
)
def test_what_only_adds_is_faithful(prompt: str, expansion: str) -> None:
    assert problems(prompt, expansion) == []


@pytest.mark.parametrize(
    ("prompt", "expansion", "why"),
    [
        ("a red ball bouncing", "a red ball", "lost 'bouncing'"),
        ("a red ball", "a shiny ball", "lost 'red'"),
        ("a red ball and a red cube", "a red ball and a cube", "lost"),
        ("a red ball", "a blue ball beside a red cube", "lost its colour"),
        ("a red ball", "a red ball, then a green ball", "became"),
        ("two cats", "two dogs and three cats", "became"),
        ("a cat", "a cat, five cats", "became"),
        ("three cats", "three cats, a cat", "became"),
        ("a dog barks", "a dog never barks", "says no"),
        ("a dog barks", "a dog doesn't bark, barks", "says no"),
        ("一只橙色的猫", "一只黑色的猫", "lost '橙色'"),
        ("一只猫", "一只猫和三只猫", "became"),
        ("一只猫", "一只猫不动", "says no"),
        ("🐈 runs", "a cat runs", "lost '🐈'"),
    ],
)
def test_what_loses_or_contradicts_is_found(prompt: str, expansion: str, why: str) -> None:
    assert any(why in problem for problem in problems(prompt, expansion)), problems(prompt, expansion)


def test_words_are_counted_and_function_words_are_not() -> None:
    assert lost_words("the cat and the dog", "a cat with dog") == []
    assert lost_words("red cat, red dog", "red cat, dog") == ["red"]
    assert lost_words("A Red Ball", "red ball") == []
