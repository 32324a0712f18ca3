"""Strengthened attention across frames: the published formula, written out place by place."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from wanrun.diffusion.experts import load
from wanrun.wan.crossframe import frame_count, intensity
from wanrun.wan.rope import rotation

HIGH = Path(__file__).parents[2] / "modelfiles" / "wan-toy" / "wan-toy-high-noise-Q8_0.gguf"


@pytest.mark.parametrize("grid", [(1, 2, 3), (2, 1, 1), (5, 4, 4), (31, 2, 2)])
def test_a_rotation_tells_its_frames(grid: tuple[int, int, int]) -> None:
    assert frame_count(rotation(*grid)) == grid[0]


def test_intensity_is_the_mean_attention_to_other_frames() -> None:
    frames, places, heads, dim, weight = 3, 4, 2, 128, 5.0
    rng = torch.Generator().manual_seed(1)
    query, key = torch.randn(2, 1, heads, frames * places, dim, generator=rng)
    found = []
    for head in range(heads):
        for place in range(places):
            rows = [frame * places + place for frame in range(frames)]
            for i in range(frames):
                logits = [float(query[0, head, rows[i]] @ key[0, head, row]) / math.sqrt(dim) for row in rows]
                weights = [math.exp(logit) for logit in logits]
                found += [weights[j] / sum(weights) for j in range(frames) if j != i]
    expected = max(1.0, sum(found) / len(found) * (frames + weight))
    assert intensity(query, key, frames, weight).tolist() == pytest.approx([expected], rel=1e-5)


def test_frames_that_ignore_each_other_and_a_single_one_change_nothing() -> None:
    alone = torch.eye(4, 128)[None, None] * 100
    assert intensity(alone, alone, 4, 3.0).tolist() == [1.0]
    assert intensity(alone, alone, 1, 3.0).tolist() == [1.0]


def test_even_attention_is_strengthened_by_its_weight() -> None:
    same = torch.zeros(2, 1, 6, 128)
    assert intensity(same, same, 3, 1.5).tolist() == pytest.approx([1.5, 1.5])


def test_it_is_off_at_0_and_changes_the_velocity_above() -> None:
    rng = torch.Generator().manual_seed(5)
    latents, context = torch.randn(16, 3, 8, 8, generator=rng), torch.randn(4, 256, generator=rng)

    def velocity(cross_frame: float) -> torch.Tensor:
        with load({"diffusion": HIGH}, device="cpu", precision="fp32", cross_frame=cross_frame) as model:
            return model.velocity(latents, 900.0, context)

    # a weight so small that no block is strengthened takes the same way round
    assert torch.allclose(velocity(0.0), velocity(1e-9), atol=1e-5)
    assert not torch.allclose(velocity(0.0), velocity(4.0), atol=1e-3)
