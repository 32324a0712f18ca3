"""The embedded model makes what the prompt says, judged from pixels alone."""

from __future__ import annotations

from pathlib import Path

import pytest

import wanrun
from wanrun.errors import ModelNotFound
from wanrun.evaluate.judge import look
from wanrun.gguf.header import read_header
from wanrun.wan.detect import identify

ROOT = Path(__file__).parent.parent.parent

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


def test_object_and_background_have_the_colours_that_were_asked_for() -> None:
    right = 0
    for seed, (colour, shape, motion, ground, noun) in enumerate(PROMPTS):
        clip = wanrun.generate("wan-toy", f"a {colour} {shape} {motion} on a {ground} {noun}", seed=seed)
        assert len(clip.frames) == 17
        seen = look(clip.frames)
        largest = seen.objects[0].colour if seen.objects else ""
        right += (largest, seen.ground) == (colour, ground)
    assert right >= 8


def test_the_bundle_is_stored_as_the_big_models_are() -> None:
    bundle = wanrun.load("wan-toy")
    assert set(bundle.components) == {"high_noise", "low_noise", "text_encoder", "vae"}
    assert bundle.parameters["boundary"] == 0.875
    assert sum(component.size for component in bundle.components.values()) <= 24_000_000
    assert (ROOT / "modelfiles/wan-toy/README.md").is_file()


def test_smaller_tags_are_made_when_they_are_first_used() -> None:
    small, shipped = wanrun.load("wan-toy:q4_k_m"), wanrun.load("wan-toy:q8_0")
    for role, component in small.experts.items():
        assert component.size < 0.75 * shipped.experts[role].size
        assert component.origin.endswith("-noise-Q4_K_M.gguf")
        assert identify(read_header(component.path)).kind == "diffusion"
    for role in ("vae", "text_encoder"):
        assert small.components[role].digest == shipped.components[role].digest
    assert len(wanrun.generate(small, "a red ball", seed=0, steps=2, frames=5).frames) == 5
    with pytest.raises(ModelNotFound, match="q4_k_m, q8_0"):
        wanrun.load("wan-toy:q3_k_m")


@pytest.mark.parametrize("prompt", ["", "🏀", "一个红色的球在蓝色的表面上弹跳", "x" * 3000])
def test_any_prompt_makes_a_video(prompt: str) -> None:
    assert len(wanrun.generate("wan-toy", prompt, seed=0, steps=2, frames=5).frames) == 5
