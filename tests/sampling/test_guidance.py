"""Guidance: the formula, which scale holds where, and how often the denoiser is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg
from torch import Tensor

from wanrun.errors import InvalidRequest
from wanrun.sampling import schedules, unipc
from wanrun.sampling.guidance import Guidance, guided
from wanrun.sampling.noise import initial_noise
from wanrun.sampling.trajectory import tensor

POSITIVE, NEGATIVE = torch.full((3, 8), 2.0), torch.full((5, 8), -1.0)
LATENTS = torch.ones(2, 1, 2, 2)


@dataclass
class Linear:
    """A denoiser that is linear in everything it is given and remembers what that was."""

    calls: list[tuple[float, float, Tensor | None]] = field(default_factory=list)

    def velocity(
        self, latents: Tensor, timestep: float | Tensor, context: Tensor, condition: Tensor | None = None
    ) -> Tensor:
        self.calls.append((float(timestep), context.mean().item(), condition))
        return latents * context.mean() + (0 if condition is None else condition)

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def test_formula() -> None:
    denoise = guided(Linear(), POSITIVE, NEGATIVE, Guidance(4.0, 3.0, None))
    assert torch.equal(denoise(LATENTS, 10.0), torch.full_like(LATENTS, -1 + 4 * (2 - -1)))


@pytest.mark.parametrize(("timestep", "expected"), [(999.0, 11.0), (875.0, 11.0), (874.99, 8.0), (0.0, 8.0)])
def test_the_scale_changes_with_the_expert(timestep: float, expected: float) -> None:
    denoise = guided(Linear(), POSITIVE, NEGATIVE, Guidance(4.0, 3.0, 0.875))
    assert torch.equal(denoise(LATENTS, timestep), torch.full_like(LATENTS, expected))


def test_a_dense_model_has_one_scale() -> None:
    denoise = guided(Linear(), POSITIVE, NEGATIVE, Guidance(5.0, 1.0, None))
    assert denoise(LATENTS, 0.0).mean().item() == denoise(LATENTS, 1000.0).mean().item() == 14.0


@pytest.mark.parametrize(
    ("high", "low", "passes"),
    [(4.0, 3.0, 80), (4.0, 1.0, 66), (1.0, 3.0, 54), (1.0, 1.0, 40), (0.0, 0.0, 80)],
)
def test_passes_of_a_whole_run(high: float, low: float, passes: int) -> None:
    """26 of the 40 official steps at shift 12 are the high expert's; a scale of 1 needs one pass a step."""
    denoiser = Linear()
    denoise = guided(denoiser, POSITIVE, NEGATIVE, Guidance(high, low, 0.875))
    sigmas = tensor(schedules.unipc(40, 12.0))
    unipc.sample(denoise, initial_noise((2, 1, 2, 2), 0), sigmas, torch.Generator(), lambda *step: None)
    assert len(denoiser.calls) == passes


def test_conditional_pass_comes_first_and_both_see_the_condition() -> None:
    denoiser = Linear()
    condition = torch.ones_like(LATENTS)
    result = guided(denoiser, POSITIVE, NEGATIVE, Guidance(2.0, 2.0, None), condition)(LATENTS, 500.0)
    assert [(timestep, context) for timestep, context, _ in denoiser.calls] == [(500.0, 2.0), (500.0, -1.0)]
    assert all(seen is condition for _, _, seen in denoiser.calls)
    assert torch.equal(result, torch.full_like(LATENTS, 6.0))


def test_no_negative_context_is_needed_at_scale_1() -> None:
    denoise = guided(Linear(), POSITIVE, None, Guidance(1.0, 1.0, 0.875))
    assert torch.equal(denoise(LATENTS, 900.0), 2 * LATENTS)
    assert torch.equal(guided(Linear(), POSITIVE, None, Guidance(1.0, 7.0, None))(LATENTS, 1.0), 2 * LATENTS)


@pytest.mark.parametrize(
    ("high", "low", "boundary", "named"),
    [
        (4.0, 1.0, 0.875, "guidance_high 4"),
        (1.0, 3.0, 0.875, "guidance_low 3"),
        (5.0, 5.0, None, "guidance 5"),
    ],
)
def test_a_scale_without_its_negative_context_is_refused(
    high: float, low: float, boundary: float | None, named: str
) -> None:
    with pytest.raises(InvalidRequest, match=named):
        guided(Linear(), POSITIVE, None, Guidance(high, low, boundary))


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_a_scale_that_is_not_a_number_is_refused(scale: float) -> None:
    with pytest.raises(InvalidRequest, match="guidance_low must be a number"):
        guided(Linear(), POSITIVE, NEGATIVE, Guidance(4.0, scale, 0.875))


@pytest.mark.parametrize(
    ("timestep", "guided_there"), [(1000.0, False), (900.0, True), (500.0, True), (199.0, False)]
)
def test_guidance_keeps_to_its_interval(timestep: float, guided_there: bool) -> None:
    denoiser = Linear()
    guidance = Guidance(4.0, 3.0, 0.875, start=0.95, end=0.2)
    result = guided(denoiser, POSITIVE, NEGATIVE, guidance)(LATENTS, timestep)
    assert len(denoiser.calls) == 1 + guided_there
    assert (result.mean().item() == 2.0) != guided_there


@pytest.mark.parametrize("amount", [0.3, 1.0])
def test_rescaling_equals_diffusers(amount: float) -> None:
    conditional, unconditional = torch.randn(2, 4, 3, 6, 6, generator=torch.Generator().manual_seed(2))
    ours = Guidance(5.0, 5.0, None, rescale=amount).combine(conditional, unconditional, 500.0)
    plain = Guidance(5.0, 5.0, None).combine(conditional, unconditional, 500.0)
    theirs = rescale_noise_cfg(plain[None], conditional[None], amount)[0]
    assert torch.allclose(ours, theirs, rtol=1e-6, atol=1e-6)
    assert not torch.allclose(ours, plain)


def test_composition_adds_what_the_nouns_say_until_objects_have_their_shape() -> None:
    """v₋ + s·(v₊ − v₋) + w·(v₊ − v₀), where the contexts' means are the velocities."""
    headless = torch.full((3, 8), 1.5)
    guidance = Guidance(4.0, 3.0, 0.875, compose=2.0)
    denoiser = Linear()
    denoise = guided(denoiser, POSITIVE, NEGATIVE, guidance, headless=headless)
    expected = {999.0: 12.0, 875.0: 12.0, 874.0: 9.0, 600.0: 9.0, 599.0: 8.0, 0.0: 8.0}
    for timestep, value in expected.items():
        assert denoise(LATENTS, timestep).mean().item() == pytest.approx(value), timestep
    assert len(denoiser.calls) == 2 * 6 + 4


def test_nothing_is_composed_without_guidance_or_a_weight() -> None:
    headless = torch.full((3, 8), 1.5)
    for guidance in (Guidance(4.0, 3.0, None), Guidance(1.0, 1.0, None, compose=2.0)):
        with_it, without = Linear(), Linear()
        found = guided(with_it, POSITIVE, NEGATIVE, guidance, headless=headless)(LATENTS, 600.0)
        assert torch.equal(found, guided(without, POSITIVE, NEGATIVE, guidance)(LATENTS, 600.0))
        assert len(with_it.calls) == len(without.calls)
