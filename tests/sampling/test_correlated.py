"""Correlated noise: every frame stays standard normal, and frames hang together as the formula says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from wanrun import plugins
from wanrun.errors import InvalidRequest
from wanrun.sampling.correlated import mixed, progressive
from wanrun.sampling.noise import frame_generator, initial_noise, step_generator

SHAPE = (16, 5, 64, 64)  # 65,536 numbers a frame
#: Of a correlation that is measured on so many pairs, five times over.
CHANCE = 5 / math.sqrt(16 * 64 * 64)


def drawn(kind: str, alpha: float, seed: int = 3) -> Tensor:
    noise: Tensor = plugins.bind("noises", f"{kind}:alpha={alpha}")(
        initial_noise(SHAPE, seed), frame_generator(seed)
    )
    return noise


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 4.0])
@pytest.mark.parametrize("kind", ["mixed", "progressive"])
def test_every_frame_is_standard_normal(kind: str, alpha: float) -> None:
    noise = drawn(kind, alpha)
    assert noise.shape == SHAPE
    assert noise.dtype == torch.float32
    for frame in noise.unbind(1):
        values = frame.double().numpy().ravel()
        assert abs(values.mean()) < CHANCE
        assert abs(values.var() - 1) < CHANCE * math.sqrt(2)
        assert stats.kstest(values, "norm").pvalue > 1e-4


@pytest.mark.parametrize("kind", ["mixed", "progressive"])
def test_within_a_frame_the_noise_stays_independent(kind: str) -> None:
    frame = drawn(kind, 2.0)[:, 2].double().numpy()
    for one, other in (
        (frame[:, :, 1:], frame[:, :, :-1]),
        (frame[:, 1:], frame[:, :-1]),
        (frame[1:], frame[:-1]),
    ):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < CHANCE


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 4.0])
@pytest.mark.parametrize("kind", ["mixed", "progressive"])
def test_frames_correlate_as_the_formula_says(kind: str, alpha: float) -> None:
    frames = drawn(kind, alpha).transpose(0, 1).flatten(1).double().numpy()
    share = alpha**2 / (1 + alpha**2)
    apart = np.abs(np.subtract.outer(range(5), range(5)))
    expected = np.where(apart == 0, 1.0, share) if kind == "mixed" else math.sqrt(share) ** apart
    assert np.abs(np.corrcoef(frames) - expected).max() < CHANCE


def test_the_first_progressive_frame_and_alpha_0_are_the_noise_itself() -> None:
    noise = initial_noise(SHAPE, 3)
    assert torch.equal(progressive(noise, frame_generator(3), alpha=2.0)[:, 0], noise[:, 0])
    assert torch.equal(progressive(noise, frame_generator(3), alpha=0.0), noise)
    assert torch.equal(mixed(noise, frame_generator(3), alpha=0.0), noise)


def test_what_frames_share_is_no_noise_of_the_run() -> None:
    shared = torch.randn(4096, generator=frame_generator(7))
    for other in (initial_noise((4096,), 7), torch.randn(4096, generator=step_generator(7))):
        assert abs(torch.corrcoef(torch.stack([shared, other]))[0, 1].item()) < 0.08


@pytest.mark.parametrize("text", ["mixed:alpha=-1", "mixed:alpha=nan", "mixed:beta=1", "pink"])
def test_other_options_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        plugins.bind("noises", text)
