"""Samples with UniPC (Zhao et al. 2023, arXiv 2302.04867) of order 1 to 3, data prediction.

As in Wan2.2 ``wan/utils/fm_solvers_unipc.py`` the corrector reuses the evaluation at the predicted latents,
and its estimate is not computed again after the correction. The variants bh1 and bh2 are the paper's B(h) = h
and e^h − 1: they differ where it fixes a weight at ½ instead of solving for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from torch import Generator, Tensor

from wanrun.sampling import adams
from wanrun.sampling.trajectory import half_log_snr, levels, move, truncated_timestep
from wanrun.types import Denoise, OnStep, Range


@dataclass(frozen=True, slots=True)
class State:
    """All that one step hands to the next."""

    #: Where the model is evaluated next: x_i as predicted.
    latents: Tensor
    #: The corrected x_{i−1}, from which the corrector steps again.
    base: Tensor
    #: Clean estimates m_{i−1}, m_{i−2}, …, newest first, at most as many as the order.
    estimates: tuple[Tensor, ...] = ()


@dataclass(frozen=True, slots=True)
class Solver:
    """A list of sigmas, and how they are walked."""

    sigmas: list[float]
    order: int = 2
    variant: str = "bh2"

    def advance(self, state: State, clean: Tensor, index: int) -> State:
        """Correct the latents of step ``index`` by their own clean estimate, then predict the next."""
        base = state.latents if index == 0 else self._correct(state, clean, index - 1)
        estimates = (clean, *state.estimates[: self.order - 1])
        return State(self._predict(base, estimates, index), base, estimates)

    def _order(self, index: int) -> int:
        """No more than the estimates at hand, and falling to 1 where the list ends."""
        return min(self.order, index + 1, len(self.sigmas) - 1 - index)

    def _predict(self, base: Tensor, estimates: tuple[Tensor, ...], index: int) -> Tensor:
        """UniP: the step from ``index``. The paper fixes the weight of a single difference at ½."""
        order = self._order(index)
        nodes = self._nodes(index, order)
        target = estimates[0]
        if order == 2:
            target = target + self._half(index) / nodes[1] * (estimates[1] - target)
        elif order > 2:
            target = adams.mean(estimates[:order], nodes, self._step(index))
        return move(base, target, *self.sigmas[index : index + 2])

    def _correct(self, state: State, clean: Tensor, index: int) -> Tensor:
        """UniC: the step from ``index`` again, now knowing the estimate at its end as well."""
        order = self._order(index)
        newest = state.estimates[0]
        if order == 1:
            target = newest + self._half(index) * (clean - newest)
        else:
            nodes = [*self._nodes(index, order), 1.0]
            target = adams.mean((*state.estimates[:order], clean), nodes, self._step(index))
        return move(state.base, target, *self.sigmas[index : index + 2])

    def _step(self, index: int) -> float:
        return half_log_snr(self.sigmas[index + 1]) - half_log_snr(self.sigmas[index])

    def _nodes(self, index: int, order: int) -> list[float]:
        """Where the estimates stand, in steps in λ from ``index`` on: 0 and below; −∞ at pure noise."""
        here, step = half_log_snr(self.sigmas[index]), self._step(index)
        return [0.0, *((half_log_snr(self.sigmas[index - back]) - here) / step for back in range(1, order))]

    def _half(self, index: int) -> float:
        """½·B(h)/(1 − e^{−h}). From pure noise h is infinite and bh1 has no limit: bh2's is taken."""
        step = self._step(index)
        return 0.5 * step / -math.expm1(-step) if self.variant == "bh1" and math.isfinite(step) else 0.5


def sample(
    denoise: Denoise,
    latents: Tensor,
    sigmas: Tensor,
    rng: Generator,
    on_step: OnStep,
    *,
    order: Annotated[int, Range(1, 3)] = 2,
    variant: Literal["bh1", "bh2"] = "bh2",
) -> Tensor:
    """UniPC (arXiv 2302.04867), the official default: each evaluation also corrects the step before.

    One evaluation a step; the order rises from 1 and falls to 1 at the end, and the model is told int(1000σ).
    Deterministic: ``rng`` is not used. Raises InvalidRequest for sigmas that do not fall.

    Good for everything, from ten steps on, in order 2: order 3 does not forgive the switch of experts.
    """
    solver = Solver(levels(sigmas), order, variant)
    state = State(latents, latents)
    for index, sigma in enumerate(solver.sigmas[:-1]):
        clean = state.latents - sigma * denoise(state.latents, truncated_timestep(sigma))
        state = solver.advance(state, clean, index)
        on_step(index, state.latents, clean)
    return state.latents
