"""Turns a number of steps and a shift into the sigmas that a sampler walks down.

Every list has ``steps`` + 1 values that fall to 0. Plain arithmetic: planning a run needs no torch.

``linear`` and ``unipc`` are those of the official code (Wan2.2 ``wan/utils/fm_solvers.py``,
``fm_solvers_unipc.py``) to the last bit: the solvers truncate 1000σ to an integer, so a rounding error can
change what the model is told. Those that read a table take ComfyUI's (``comfy/model_sampling.py``,
ModelSamplingDiscreteFlow): S(k) = shift(k/1000) for k = 1 … 1000.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import Annotated

from wanrun.errors import InvalidRequest
from wanrun.types import Range

#: The noise levels the model was trained on are thousandths; more steps than that repeat timesteps.
STEPS_LIMIT = 1000
SHIFT_LIMITS = (0.001, 1000.0)

#: Where the official UniPC starts: 1 − 1/1000, which that code keeps as float32.
UNIPC_START = 0.9990000128746033


def shift(sigma: float, s: float) -> float:
    """σ' = sσ / (1 + (s − 1)σ): for s > 1 more steps at high noise (Esser et al. 2024, arXiv 2403.03206)."""
    return min(1.0, s * sigma / (1 + (s - 1) * sigma))  # rounding may lead above 1


def linear(steps: int, shift: float) -> list[float]:
    """Evenly from 1 to 0 before the shift: the official list for DPM++.

    Good for every sampler but unipc: what the model was made for.
    """
    _check(steps, shift)
    return _shifted(_even(1.0, 0.0, steps), steps, shift)


def unipc(steps: int, shift: float) -> list[float]:
    """Evenly from 0.999 to 0 before the shift: the official list for UniPC.

    Good for unipc, whose formulas have no use for a first step at pure noise.
    """
    _check(steps, shift)
    return _shifted(_even(UNIPC_START, 0.0, steps), steps, shift)


def simple(steps: int, shift: float) -> list[float]:
    """Every (1000/steps)-th level of the table, from the top (ComfyUI ``simple_scheduler``).

    Good for repeating a workflow that names it: nearly linear.
    """
    _check(steps, shift)
    return _shifted([(1000 - index * 1000 // steps) / 1000 for index in range(steps)], steps, shift)


def ddim_uniform(steps: int, shift: float) -> list[float]:
    """Levels 2, 2 + ⌊1000/steps⌋, … of the table (ComfyUI ``ddim_scheduler``; DDIM's "leading" steps).

    Where ``steps`` does not divide 1000 ComfyUI's list has more levels than steps; this one stops at them.
    Good for repeating a workflow that names it: it starts below pure noise, which costs contrast.
    """
    _check(steps, shift)
    stride = 1000 // steps
    levels = [min(1000, 2 + index * stride) / 1000 for index in range(steps)]
    return _shifted(reversed(levels), steps, shift)


def normal(steps: int, shift: float) -> list[float]:
    """Evenly from 1 to the table's last level, both shifted once more (ComfyUI ``normal_scheduler``).

    Good for repeating a workflow that names it: its last step is a small one.
    """
    _check(steps, shift)
    return _shifted(_even(1.0, _least(shift), steps - 1), steps, shift)


def sgm_uniform(steps: int, shift: float) -> list[float]:
    """As normal, but of one level more, without the last (ComfyUI ``normal_scheduler`` with ``sgm``).

    Good for distilled models, and for repeating a workflow that names it.
    """
    _check(steps, shift)
    return _shifted(_even(1.0, _least(shift), steps)[:-1], steps, shift)


def beta(
    steps: int,
    shift: float,
    *,
    alpha: Annotated[float, Range(0.1, 10)] = 0.6,
    beta: Annotated[float, Range(0.1, 10)] = 0.6,
) -> list[float]:
    """Quantiles of a beta distribution (Lee et al. 2024, arXiv 2407.12173; ComfyUI ``beta_scheduler``).

    Good for detail: more steps at both ends than linear.
    """
    _check(steps, shift)
    from scipy.special import betaincinv  # scipy takes a third of a second to import

    levels = (float(betaincinv(alpha, beta, 1 - index / steps)) for index in range(steps))
    return _shifted([(round(level * 999) + 1) / 1000 for level in levels], steps, shift)


def smoothstep(steps: int, shift: float) -> list[float]:
    """u²(3 − 2u) of an even u, to a level of the table (stable-diffusion.cpp ``SmoothStepScheduler``).

    Good for detail: as beta, with its steps closer to the ends.
    """
    _check(steps, shift)
    levels = (1 - index / steps for index in range(steps))
    return _shifted([(round(u * u * (3 - 2 * u) * 999) + 1) / 1000 for u in levels], steps, shift)


def karras(steps: int, shift: float, *, rho: Annotated[float, Range(1, 100)] = 7.0) -> list[float]:
    """Evenly in σ^(1/ρ) from 1 to the table's last level (Karras et al. 2022, arXiv 2206.00364, equation 5).

    Good for fine texture, if the motion may suffer: few of its steps are at high noise, whatever the shift.
    """
    _check(steps, shift)
    ends = 1.0, _least(shift) ** (1 / rho)
    return _falling([root**rho for root in _even(*ends, steps - 1)], steps)


def exponential(steps: int, shift: float) -> list[float]:
    """Evenly in ln σ from 1 to the table's last level (k-diffusion ``get_sigmas_exponential``).

    Good for fine texture, as karras, and leaning further to low noise.
    """
    _check(steps, shift)
    return _falling([math.exp(level) for level in _even(0.0, math.log(_least(shift)), steps - 1)], steps)


def kl_optimal(steps: int, shift: float) -> list[float]:
    """Evenly in arctan σ from 1 to the table's last level (Sabour et al. 2024, arXiv 2404.14507, section 3).

    Good for many steps: close to linear without a shift.
    """
    _check(steps, shift)
    angles = _even(math.pi / 4, math.atan(_least(shift)), steps - 1)
    return _falling([1.0, *(math.tan(angle) for angle in angles[1:])], steps)


def linear_quadratic(
    steps: int, shift: float, *, threshold: Annotated[float, Range(0.001, 0.5)] = 0.025
) -> list[float]:
    """Half the steps take ``threshold`` of the noise, the rest falls quadratically; then the shift.

    Source: Mochi (genmoai/mochi ``linear_quadratic_schedule``), which has no shift.
    Good for motion in few steps: small steps at high noise even without a shift.
    """
    _check(steps, shift)
    first = steps // 2
    if not first:
        return _shifted([1.0], steps, shift)
    rest = steps - first
    # the parabola that continues the line with its slope and reaches 1 at the last step
    slope = threshold / first
    bend = (1 - threshold - slope * rest) / rest**2
    done = [slope * index for index in range(first)]
    done += [threshold + slope * index + bend * index**2 for index in range(rest)]
    return _shifted([1 - each for each in done], steps, shift)


def cosine(steps: int, shift: float) -> list[float]:
    """cos²(πu/2) for even u, then the shift; our own, after the cosine of Nichol and Dhariwal (2102.09672).

    Good for detail: small steps at both ends, as smoothstep, but never rounded to a table.
    """
    _check(steps, shift)
    return _shifted([math.cos(math.pi * index / (2 * steps)) ** 2 for index in range(steps)], steps, shift)


def custom(steps: int, shift: float, *, sigmas: tuple[Annotated[float, Range(0, 1)], ...]) -> list[float]:
    """The sigmas as they are written, without a shift: custom:1,0.9375,0.8333,0.625,0.

    ``steps`` are as many as the list makes. Raises InvalidRequest for a list that does not fall.
    Good for distilled models whose authors publish a list.
    """
    taken = len(sigmas) - (sigmas[-1] == 0)
    if not taken:
        raise InvalidRequest("a list of sigmas needs one above 0")
    return _falling([*sigmas], taken)


def _even(start: float, end: float, steps: int) -> list[float]:
    """``steps`` + 1 values from ``start`` to ``end``, as numpy's linspace has them; ``start`` alone for 0."""
    if steps < 1:
        return [start]
    stride = (end - start) / steps
    return [*(index * stride + start for index in range(steps)), end]


def _least(s: float) -> float:
    """The table's last level."""
    return shift(1 / 1000, s)


def _check(steps: int, s: float) -> None:
    if not 1 <= steps <= STEPS_LIMIT:
        raise InvalidRequest(f"steps must be 1 to {STEPS_LIMIT}, not {steps}")
    low, high = SHIFT_LIMITS
    if not low <= s <= high:
        raise InvalidRequest(f"shift must be {low:g} to {high:g}, not {s}")


def _shifted(levels: Iterable[float], steps: int, s: float) -> list[float]:
    return _falling([shift(level, s) for level in levels], steps)


def _falling(sigmas: list[float], steps: int) -> list[float]:
    """The first ``steps`` sigmas and 0; InvalidRequest where two do not fall: no step is taken twice."""
    found = [*sigmas[:steps], 0.0]
    for before, after in pairwise(found):
        if not before > after:
            raise InvalidRequest(
                f"with {steps} steps the schedule goes from sigma {before:g} to {after:g}: take fewer, or "
                "write sigmas that fall"
            )
    return found
