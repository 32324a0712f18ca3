"""What the English reader makes of prompts: sentences, captions, lists of words, and nonsense."""

from __future__ import annotations

import pytest

from wanrun.evaluate.toy import Asked, suite
from wanrun.prompts.english import read_english
from wanrun.prompts.structure import Structure

_NAMES = {"ball": {"ball", "circle"}, "square": {"square", "cube", "box"}}


def things(text: str) -> list[tuple[str, str, int | None]]:
    return [(" ".join(item.attributes), item.noun, item.count) for item in read_english(text).things]


def relations(text: str) -> list[tuple[str, str, str]]:
    found = read_english(text)
    return [
        (found.objects[each.subject].noun, each.text, found.objects[each.object].noun)
        for each in found.relations
    ]


def actions(text: str) -> list[tuple[str, list[str]]]:
    found = read_english(text)
    return [(each.text, [found.objects[index].noun for index in each.subjects]) for each in found.actions]


@pytest.mark.parametrize("asked", suite(), ids=lambda asked: asked.prompt)
def test_every_caption_of_the_toy_suite_is_read_as_its_scene(asked: Asked) -> None:
    found = read_english(asked.prompt)
    assert [item.colours for item in found.things] == [(colour,) for colour, _ in asked.objects]
    for item, (_, shape) in zip(found.things, asked.objects, strict=True):
        assert item.noun in _NAMES.get(shape, {shape})
        assert item.count == 1
    grounds = [(item.colours or (item.noun,))[0].replace("grey", "gray") for item in found.places]
    assert grounds == [asked.ground]
    between = [each for each in found.relations if found.objects[each.object].role == "thing"]
    assert len(between) == bool(asked.relation)
    everyone = tuple(number for number, item in enumerate(found.objects) if item.role == "thing")
    assert all(each.subjects == everyone for each in found.actions)
    assert len(found.actions) == 1 or (asked.relation and asked.motion == "staying still")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("two small red balls", [("small red", "balls", 2)]),
        ("5 red apples and 2 green pears", [("red", "apples", 5), ("green", "pears", 2)]),
        ("a pair of white doves", [("white", "doves", 2)]),
        (
            "some dogs, several cats and people",
            [("", "dogs", None), ("", "cats", None), ("", "people", None)],
        ),
        ("a very large, fluffy white cat", [("very large fluffy white", "cat", 1)]),
        ("red and blue balls", [("red blue", "balls", None)]),
        ("a flying bird", [("flying", "bird", 1)]),
        ("Grandma's old wooden chair", [("old wooden", "chair", 1)]),
        ("ball", [("", "ball", 1)]),
        ("waves crash against the rocks", [("", "waves", None)]),
        ("1,000 white birds", [("white", "birds", 1000)]),
        ("a glass of water", [("", "glass", 1), ("", "water", 1)]),
    ],
)
def test_noun_phrases(text: str, expected: list[tuple[str, str, int | None]]) -> None:
    assert things(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a red ball left of a blue cube", [("ball", "left of", "cube")]),
        ("on a table, a cat sleeps", [("cat", "on", "table")]),
        (
            "a man in a red coat holding a blue umbrella next to a woman in a green dress",
            [
                ("man", "in", "coat"),
                ("man", "holding", "umbrella"),
                ("man", "next to", "woman"),
                ("woman", "in", "dress"),
            ],
        ),
        (
            "a cat chases a mouse and jumps over a fence",
            [("cat", "chases", "mouse"), ("cat", "over", "fence")],
        ),
        ("a dog. A cat on a sofa", [("cat", "on", "sofa")]),
    ],
)
def test_relations(text: str, expected: list[tuple[str, str, str]]) -> None:
    assert relations(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a white cat and a black dog are playing", [("are playing", ["cat", "dog"])]),
        ("three dogs and a cat run through the snow", [("run", ["dogs", "cat"])]),
        ("a square that does not move", [("does not move", ["square"])]),
        ("a star quickly moving in a circle", [("quickly moving in a circle", ["star"])]),
        ("a stylish woman walks down a street", [("walks down", ["woman"])]),
        ("a cat sits and purrs", [("sits", ["cat"]), ("purrs", ["cat"])]),
        ("rain falling", [("falling", ["rain"])]),
        ("bouncing", [("bouncing", [])]),
        ("a ski jump", []),
    ],
)
def test_actions(text: str, expected: list[tuple[str, list[str]]]) -> None:
    assert actions(text) == expected


def test_what_is_about_the_filming_is_no_thing() -> None:
    found = read_english("a close-up shot of a cat, the camera slowly pans across a misty valley, 35mm lens")
    assert [(item.noun, item.role) for item in found.objects] == [
        ("shot", "camera"),
        ("cat", "thing"),
        ("camera", "camera"),
        ("valley", "place"),
        ("lens", "camera"),
    ]
    assert [item.noun for item in read_english("a picture on a wall").things] == ["picture"]


def check(found: Structure) -> None:
    """Every part lies in the text, says what stands there, and points to what there is."""
    places = [(each.start, each.end, each.text) for each in found.objects]
    places += [(each.start, each.end, each.text) for each in found.actions]
    places += [(each.start, each.end, each.text) for each in found.relations]
    assert all(text and found.text[start:end] == text for start, end, text in places)
    count = len(found.objects)
    assert all(0 <= index < count for each in found.actions for index in each.subjects)
    for each in found.relations:
        assert 0 <= each.subject < count
        assert 0 <= each.object < count
        assert each.subject != each.object
