"""The judge sees what the generator drew, and notices what is wrong with a clip."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from tests.recipe import modules
from wanrun.evaluate.judge import Seen, look

Clip = NDArray[np.uint8]


@pytest.fixture(scope="module")
def world() -> Iterator[ModuleType]:
    with modules() as recipe:
        yield recipe["world"]


def drawn(world: ModuleType, scene: Any) -> Clip:
    pixels = world.render([scene])[0].permute(1, 2, 3, 0).numpy()
    clip: Clip = ((pixels + 1) * 127.5).round().astype(np.uint8)
    return clip


def agreement(scene: Any, seen: Seen) -> dict[str, bool]:
    by_colour = {item.colour: item for item in seen.objects}
    found = [by_colour.get(thing.colour) for thing in scene.things]
    right = {
        "colours": set(by_colour) == {thing.colour for thing in scene.things},
        "ground": seen.ground == scene.ground,
        "shapes": [item and item.shape for item in found] == [thing.shape for thing in scene.things],
        "motion": all(item and item.motion == scene.motion for item in found),
        "count": seen.count == len(scene.things),
    }
    if scene.relation:
        one, two = (thing.colour for thing in scene.things)
        right["relation"] = seen.relation == (one, scene.relation, two)
    return right


@pytest.mark.parametrize("part", range(4))
def test_it_agrees_with_the_generator(world: ModuleType, part: int) -> None:
    rng = np.random.default_rng((100, part))
    asked: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for index in range(250):
        scene = world.sample(rng, held=index % 2 == 1, pairs=0.4)
        found = agreement(scene, look(list(drawn(world, scene))))
        asked.update(found.keys())
        right.update(name for name, good in found.items() if good)
    assert asked["relation"] > 50
    rates = {name: right[name] / total for name, total in asked.items()}
    assert min(rates.values()) >= 0.98, rates


def test_it_sees_through_a_blur(world: ModuleType) -> None:
    """A VAE rounds corners and mixes the colours of an edge; to the eye the objects stay what they are."""
    rng = np.random.default_rng(8)
    asked: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for _ in range(100):
        scene = world.sample(rng, pairs=0.3)
        blurred = gaussian_filter(drawn(world, scene), (0, 1.25, 1.25, 0))
        found = agreement(scene, look(list(blurred)))
        asked.update(found.keys())
        right.update(name for name, good in found.items() if good)
    rates = {name: right[name] / total for name, total in asked.items()}
    assert min(rates.values()) >= 0.96, rates


def lone(world: ModuleType, **wanted: str) -> Any:
    rng = np.random.default_rng(3)
    while True:
        scene = world.sample(rng, pairs=0.0)
        thing = scene.things[0]
        facts = {"colour": thing.colour, "shape": thing.shape, "motion": scene.motion, "ground": scene.ground}
        if wanted.items() <= facts.items():
            return scene


def test_a_steady_clip_does_not_flicker_and_a_noisy_one_does(world: ModuleType) -> None:
    clip = drawn(world, lone(world, motion="moving left", ground="gray"))
    assert look(list(clip)).flicker == 0
    noise = np.random.default_rng(0).normal(0, 5, clip.shape)
    noisy = (clip + noise).clip(0, 255).astype(np.uint8)
    # a second difference of white noise of deviation s has deviation s·√6, of which the mean size is √(2/π)
    assert look(list(noisy)).flicker == pytest.approx(5 * np.sqrt(6 * 2 / np.pi), rel=0.05)


def test_an_object_that_changes_colour_loses_its_identity(world: ModuleType) -> None:
    scene = lone(world, colour="red", motion="staying still", ground="black")
    clip = drawn(world, scene)
    assert look(list(clip)).objects[0].identity == 1
    changed = clip.copy()
    changed[12:] = np.where(clip[12:, ..., :1] > 100, np.array((35, 70, 220), np.uint8), clip[12:])
    first = look(list(changed)).objects[0]
    assert first.colour == "red"
    assert first.identity == pytest.approx(12 / 17)


def test_an_object_that_changes_shape_loses_its_identity(world: ModuleType) -> None:
    scene = lone(world, shape="square", colour="white", motion="staying still", ground="black")
    clip = drawn(world, scene)
    rows, columns = np.nonzero(clip[0, ..., 0] > 100)
    y, x = np.mgrid[0:64, 0:64]
    ball = np.hypot(x - columns.mean(), y - rows.mean()) < 10
    clip[12:] = np.where(ball[..., None], 245, 14)
    assert look(list(clip)).objects[0].identity == pytest.approx(12 / 17)


def test_two_things_of_one_colour_are_counted(world: ModuleType) -> None:
    clip = np.full((5, 64, 64, 3), 14, np.uint8)
    clip[:, 10:22, 10:22] = clip[:, 40:52, 40:52] = (220, 30, 35)
    seen = look(list(clip))
    assert (seen.count, len(seen.objects)) == (2, 1)


@pytest.mark.parametrize(
    "clip",
    [
        np.zeros((1, 64, 64, 3), np.uint8),
        np.full((17, 64, 64, 3), 255, np.uint8),
        np.random.default_rng(0).integers(0, 256, (5, 32, 48, 3), np.uint8),
    ],
    ids=["one black frame", "all white", "noise"],
)
def test_nothing_to_see_is_no_error(clip: Clip) -> None:
    seen = look(list(clip))
    assert seen.relation is None or len(seen.objects) > 1
