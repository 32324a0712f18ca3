"""Sigma lists: the official code's, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from wanrun.errors import InvalidRequest
from wanrun.sampling import schedules
from wanrun.sampling.trajectory import truncated_timestep

# Printed by the official pipeline for T2V-A14B's defaults: 40 steps, shift 12.
PUBLISHED = (
    "999 997 995 993 990 988 985 982 979 976 972 969 965 961 956 952 947 941 936 929 922 915 907 898 888 877 "
    "865 852 837 819 799 776 749 717 678 631 571 492 386 235"
)


def official_unipc(steps: int, shift: float) -> NDArray[np.float64]:
    """What FlowUniPCMultistepScheduler builds: its own table of alphas first, then the list."""
    alphas = np.linspace(1, 1 / 1000, 1000)[::-1].copy()
    table = torch.from_numpy(1.0 - alphas).to(torch.float32)
    sigmas: NDArray[np.float64] = np.linspace(table[0].item(), table[-1].item(), steps + 1)[:-1]
    return shift * sigmas / (1 + (shift - 1) * sigmas)


def official_dpm(steps: int, shift: float) -> NDArray[np.float64]:
    """What get_sampling_sigmas returns."""
    sigmas: NDArray[np.float64] = np.linspace(1, 0, steps + 1)[:steps]
    return shift * sigmas / (1 + (shift - 1) * sigmas)


def test_published_timesteps() -> None:
    sigmas = schedules.unipc(40, 12.0)
    timesteps = [truncated_timestep(sigma) for sigma in sigmas[:-1].tolist()]
    assert timesteps == [float(text) for text in PUBLISHED.split()]
    assert sum(timestep >= 875 for timestep in timesteps) == 26


@pytest.mark.parametrize(("steps", "high"), [(10, 7), (20, 13), (30, 19)])
def test_steps_of_the_high_noise_expert_at_shift_12(steps: int, high: int) -> None:
    assert int((schedules.unipc(steps, 12.0) * 1000 >= 875).sum()) == high


def test_steps_of_the_high_noise_expert_for_image_to_video() -> None:
    assert int((schedules.unipc(40, 5.0)[:-1] * 1000 >= 900).sum()) == 15


@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0, 8.0, 12.0])
def test_equal_to_the_official_lists(shift: float) -> None:
    for steps in (*range(1, 61), 100, 250, 1000):
        for ours, theirs in (
            (schedules.unipc(steps, shift), official_unipc(steps, shift)),
            (schedules.linear(steps, shift), official_dpm(steps, shift)),
        ):
            assert ours.dtype == torch.float64
            assert ours.tolist() == [*theirs.tolist(), 0.0]
            timesteps = torch.from_numpy(theirs * 1000).to(torch.int64).tolist()
            assert [truncated_timestep(sigma) for sigma in ours[:-1].tolist()] == timesteps


def test_ends() -> None:
    assert schedules.linear(7, 5.0)[[0, -1]].tolist() == [1.0, 0.0]
    assert schedules.unipc(7, 1.0)[0].item() == pytest.approx(0.999, abs=2e-8)


def test_shift_moves_the_middle() -> None:
    assert schedules.shift(0.5, 3.0) == pytest.approx(0.75)
    assert schedules.shift(0.5, 1.0) == 0.5
    assert schedules.shift(1.0, 12.0) == 1.0
    assert schedules.shift(0.0, 12.0) == 0.0


@pytest.mark.parametrize("shift", [0.001, 1000.0])
def test_falls_strictly_at_every_limit(shift: float) -> None:
    for steps in (1, 2, 1000):
        assert (schedules.linear(steps, shift).diff() < 0).all()
        assert (schedules.unipc(steps, shift).diff() < 0).all()


@pytest.mark.parametrize("steps", [0, -1, 1001, 10**12])
def test_refuses_steps(steps: int) -> None:
    for schedule in (schedules.linear, schedules.unipc):
        with pytest.raises(InvalidRequest, match=f"steps must be 1 to 1000, not {steps}"):
            schedule(steps, 5.0)


@pytest.mark.parametrize("shift", [0.0, -1.0, 1e-9, 1e9, float("nan"), float("inf"), float("-inf")])
def test_refuses_shifts(shift: float) -> None:
    for schedule in (schedules.linear, schedules.unipc):
        with pytest.raises(InvalidRequest, match=r"shift must be 0\.001 to 1000"):
            schedule(4, shift)
