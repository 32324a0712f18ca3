"""Sigma lists: each equal to its definition, and all of them falling."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from numpy.typing import NDArray

from wanrun.errors import InvalidRequest
from wanrun.sampling import schedules
from wanrun.sampling.trajectory import levels, tensor, truncated_timestep
from wanrun.types import Schedule

from .flows import registered

# Printed by the official pipeline for T2V-A14B's defaults: 40 steps, shift 12.
PUBLISHED = (
    "999 997 995 993 990 988 985 982 979 976 972 969 965 961 956 952 947 941 936 929 922 915 907 898 888 877 "
    "865 852 837 819 799 776 749 717 678 631 571 492 386 235"
)
SCHEDULES: dict[str, Schedule] = {
    name: schedule for name, schedule in registered("schedules").items() if name != "custom"
}
#: Those that round to a table repeat its levels where steps are many.
ROUNDING = ("beta", "smoothstep", "ddim_uniform")


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


def table(shift: float) -> NDArray[np.float64]:
    """The thousand levels of ComfyUI's flow models."""
    sigmas = np.arange(1, 1001) / 1000
    return shift * sigmas / (1 + (shift - 1) * sigmas)


def defined(name: str, steps: int, shift: float) -> Any:
    """The list by its definition, without the final 0, written another way than ours."""
    s = table(shift)
    low = s[0]
    if name in ("linear", "unipc"):
        return (official_dpm if name == "linear" else official_unipc)(steps, shift).tolist()
    if name == "simple":
        return [s[-(1 + int(index * len(s) / steps))] for index in range(steps)]
    if name == "ddim_uniform":
        return s[1 :: 1000 // steps][:steps][::-1].tolist()
    if name in ("normal", "sgm_uniform"):
        count = steps + (name == "sgm_uniform")
        times = np.linspace(1000.0, 1000 * low, count)[:steps] / 1000
        return (shift * times / (1 + (shift - 1) * times)).tolist()
    falling = 1 - np.linspace(0, 1, steps, endpoint=False)
    if name == "beta":
        return s[np.rint(scipy.stats.beta.ppf(falling, 0.6, 0.6) * 999).astype(int)].tolist()
    if name == "smoothstep":
        return s[np.rint((3 * falling**2 - 2 * falling**3) * 999).astype(int)].tolist()
    if name == "cosine":
        return _shift((1 + np.cos(np.pi * np.arange(steps) / steps)) / 2, shift).tolist()
    ramp = np.linspace(0, 1, steps)
    if name == "karras":
        return ((1 + ramp * (low ** (1 / 7) - 1)) ** 7).tolist()
    if name == "exponential":
        return np.geomspace(1.0, low, steps).tolist() if steps > 1 else [1.0]
    if name == "kl_optimal":
        return np.tan(ramp * np.arctan(low) + (1 - ramp) * np.arctan(1.0)).tolist()
    assert name == "linear_quadratic"
    half = steps // 2
    if not half:
        return [1.0]
    done = [0.025 * index / half for index in range(half)]
    # Mochi's: a·i² + b·i + c with the line's value and slope where it begins, and 1 at the end
    a = (half - 0.025 * steps) / (half * (steps - half) ** 2)
    b = 0.025 / half - 2 * (half - 0.025 * steps) / (steps - half) ** 2
    done += [a * index**2 + b * index + a * half**2 for index in range(half, steps)]
    return _shift(1 - np.array(done), shift).tolist()


def _shift(sigmas: NDArray[np.float64], shift: float) -> NDArray[np.float64]:
    return shift * sigmas / (1 + (shift - 1) * sigmas)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0, 12.0])
def test_equal_to_the_definition(name: str, shift: float) -> None:
    for steps in (1, 2, 3, 4, 5, 8, 10, 13, 20, 25, 30, 40, 50):
        found = SCHEDULES[name](steps, shift)
        assert found[-1] == 0.0
        assert found[:-1] == pytest.approx(defined(name, steps, shift), abs=1e-9), steps


def test_the_definitions_differ() -> None:
    """The comparison can fail: no two schedules are one."""
    lists = {name: tuple(schedule(13, 5.0)) for name, schedule in SCHEDULES.items()}
    for name, found in lists.items():
        for other in lists.keys() - {name}:
            assert max(abs(a - b) for a, b in zip(found, lists[other], strict=True)) > 1e-4, (name, other)


@pytest.mark.parametrize("name", SCHEDULES)
def test_falls_visibly_from_one_step_on(name: str) -> None:
    for shift in (0.1, 1.0, 8.0, 20.0):
        for steps in (1, 2, 3, 7, 50, *(() if name in ROUNDING else (200, 1000))):
            found = SCHEDULES[name](steps, shift)
            assert len(found) == steps + 1
            assert levels(tensor(found)) == found
            if name not in ("unipc", "ddim_uniform"):
                assert found[0] == 1.0


@pytest.mark.parametrize("name", ROUNDING)
def test_steps_that_would_repeat_are_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match=r"with 1000 steps the schedule goes .*: take fewer"):
        SCHEDULES[name](1000, 5.0)


def test_published_timesteps() -> None:
    sigmas = schedules.unipc(40, 12.0)
    timesteps = [truncated_timestep(sigma) for sigma in sigmas[:-1]]
    assert timesteps == [float(text) for text in PUBLISHED.split()]
    assert sum(timestep >= 875 for timestep in timesteps) == 26


@pytest.mark.parametrize(("steps", "high"), [(10, 7), (20, 13), (30, 19)])
def test_steps_of_the_high_noise_expert_at_shift_12(steps: int, high: int) -> None:
    assert sum(sigma * 1000 >= 875 for sigma in schedules.unipc(steps, 12.0)) == high


def test_steps_of_the_high_noise_expert_for_image_to_video() -> None:
    assert sum(sigma * 1000 >= 900 for sigma in schedules.unipc(40, 5.0)) == 15


@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0, 8.0, 12.0])
def test_equal_to_the_official_lists_to_the_last_bit(shift: float) -> None:
    for steps in (*range(1, 61), 100, 250, 1000):
        for ours, theirs in (
            (schedules.unipc(steps, shift), official_unipc(steps, shift)),
            (schedules.linear(steps, shift), official_dpm(steps, shift)),
        ):
            assert ours == [*theirs.tolist(), 0.0]
            timesteps = torch.from_numpy(theirs * 1000).to(torch.int64).tolist()
            assert [truncated_timestep(sigma) for sigma in ours[:-1]] == timesteps


def test_lightning_s_list() -> None:
    """Four linear steps at shift 5, and the same written out."""
    published = [1.0, 0.9375, 0.8333333, 0.625, 0.0]
    assert schedules.linear(4, 5.0) == pytest.approx(published, abs=1e-6)
    assert schedules.custom(4, 5.0, sigmas=tuple(published)) == published


def test_a_custom_list_decides_its_own_steps_and_may_leave_out_the_end() -> None:
    assert schedules.custom(40, 12.0, sigmas=(1.0, 0.5, 0.0)) == [1.0, 0.5, 0.0]
    assert schedules.custom(1, 1.0, sigmas=(0.9, 0.5)) == [0.9, 0.5, 0.0]


@pytest.mark.parametrize(
    "sigmas", [(0.0,), (-0.0, 0.0), (0.5, 0.5), (0.5, 0.7, 0.0), (1.0, 0.0, 0.0), (0.5, 0.0, 0.3)]
)
def test_a_custom_list_must_fall(sigmas: tuple[float, ...]) -> None:
    with pytest.raises(InvalidRequest, match="sigma"):
        schedules.custom(4, 5.0, sigmas=sigmas)


def test_options_change_the_list() -> None:
    assert schedules.karras(10, 5.0, rho=1.0) == pytest.approx(
        [*np.linspace(1, table(5.0)[0], 10).tolist(), 0.0]
    )
    assert schedules.beta(10, 1.0, alpha=1.0, beta=1.0) == pytest.approx(
        [*table(1.0)[np.rint((1 - np.arange(10) / 10) * 999).astype(int)].tolist(), 0.0]
    )
    assert schedules.linear_quadratic(10, 1.0, threshold=0.5) == pytest.approx(np.linspace(1, 0, 11).tolist())


def test_shift_moves_the_middle() -> None:
    assert schedules.shift(0.5, 3.0) == pytest.approx(0.75)
    assert schedules.shift(0.5, 1.0) == 0.5
    assert schedules.shift(1.0, 12.0) == 1.0
    assert schedules.shift(0.0, 12.0) == 0.0


@pytest.mark.parametrize("shift", [0.001, 1000.0])
def test_the_official_lists_fall_at_every_limit(shift: float) -> None:
    for steps in (1, 2, 1000):
        schedules.linear(steps, shift)
        schedules.unipc(steps, shift)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [0, -1, 1001, 10**12])
def test_refuses_steps(name: str, steps: int) -> None:
    with pytest.raises(InvalidRequest, match=f"steps must be 1 to 1000, not {steps}"):
        SCHEDULES[name](steps, 5.0)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("shift", [0.0, -1.0, 1e-9, 1e9, math.nan, math.inf, -math.inf])
def test_refuses_shifts(name: str, shift: float) -> None:
    with pytest.raises(InvalidRequest, match=r"shift must be 0\.001 to 1000"):
        SCHEDULES[name](4, shift)


def test_needs_no_torch() -> None:
    """Plans of runs ask for the sigmas in processes that must stay small."""
    code = (
        "import sys\nfrom wanrun.sampling import schedules\nschedules.karras(20, 5.0)\n"
        "assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)
