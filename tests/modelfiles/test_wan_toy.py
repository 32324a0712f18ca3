"""The embedded model makes what the prompt says, judged from pixels alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import wanrun
from wanrun.types import Frame

ROOT = Path(__file__).parent.parent.parent
#: sRGB of what a person calls these.
COLOURS = {
    "red": (220, 30, 35),
    "green": (30, 170, 60),
    "blue": (35, 70, 220),
    "yellow": (245, 215, 40),
    "purple": (140, 45, 180),
    "orange": (245, 130, 25),
    "white": (240, 240, 240),
    "cyan": (40, 210, 220),
    "black": (14, 14, 14),
    "gray": (125, 125, 125),
}
GROUNDS = {"blue": (25, 50, 150), "green": (20, 115, 45), "yellow": (215, 190, 60), "white": (232, 232, 232)}

PROMPTS = (
    ("red", "ball", "bouncing", "blue", "surface"),
    ("yellow", "star", "moving left", "black", "background"),
    ("green", "ring", "circling", "white", "ground"),
    ("blue", "square", "moving right", "yellow", "surface"),
    ("white", "triangle", "growing", "green", "background"),
    ("purple", "ball", "rolling", "white", "surface"),
    ("orange", "square", "shrinking", "gray", "ground"),
    ("cyan", "star", "moving up", "black", "backdrop"),
    ("red", "triangle", "moving down", "gray", "background"),
    ("yellow", "ball", "staying still", "blue", "surface"),
)


def _named(colour: NDArray[np.float64], names: dict[str, tuple[int, int, int]]) -> str:
    return min(names, key=lambda name: float(np.abs(colour - np.array(names[name])).sum()))


def ground_colour(frame: Frame) -> str:
    """What the picture's border is called."""
    border = np.concatenate([frame[:3].reshape(-1, 3), frame[-3:].reshape(-1, 3)])
    return _named(np.median(border, axis=0), COLOURS | GROUNDS)


def object_colour(frame: Frame) -> str:
    """What the pixels that differ most from the border are called."""
    border = np.median(np.concatenate([frame[:3].reshape(-1, 3), frame[-3:].reshape(-1, 3)]), axis=0)
    distance = np.abs(frame.astype(float) - border).sum(axis=2)
    threshold = np.quantile(distance, 0.97)
    return _named(np.median(frame[distance >= threshold], axis=0), COLOURS)


def test_the_judge_sees_what_is_drawn() -> None:
    for colour, _, _, ground, _ in PROMPTS:
        frame = np.empty((64, 64, 3), np.uint8)
        frame[:] = (GROUNDS | {k: v for k, v in COLOURS.items() if k not in GROUNDS})[ground]
        frame[20:36, 30:46] = COLOURS[colour]
        assert (object_colour(frame), ground_colour(frame)) == (colour, ground)


def test_object_and_background_colours_are_mostly_right() -> None:
    right = 0
    for seed, (colour, shape, motion, ground, noun) in enumerate(PROMPTS):
        clip = wanrun.generate("wan-toy", f"a {colour} {shape} {motion} on a {ground} {noun}", seed=seed)
        assert len(clip.frames) == 17
        middle = clip.frames[8]
        right += (object_colour(middle), ground_colour(middle)) == (colour, ground)
    assert right >= 6


def test_the_bundle_is_stored_as_the_big_models_are() -> None:
    bundle = wanrun.load("wan-toy")
    assert set(bundle.components) == {"high_noise", "low_noise", "text_encoder", "vae"}
    assert bundle.parameters["boundary"] == 0.875
    assert sum(component.size for component in bundle.components.values()) <= 24_000_000
    assert (ROOT / "modelfiles/wan-toy/README.md").is_file()


@pytest.mark.parametrize("prompt", ["", "🏀", "一个红色的球在蓝色的表面上弹跳", "x" * 3000])
def test_any_prompt_makes_a_video(prompt: str) -> None:
    assert len(wanrun.generate("wan-toy", prompt, seed=0, steps=2, frames=5).frames) == 5
