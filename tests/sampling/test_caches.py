"""Step caches: their rules written out once more, a state per branch, resets, counts and resumption."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torch import Tensor

from wanrun import plugins
from wanrun.diffusion.experts import load
from wanrun.errors import FormatError, InvalidRequest, PluginError
from wanrun.sampling.blockcache import Signal
from wanrun.sampling.caching import Span
from wanrun.sampling.guidance import Guidance, guided
from wanrun.sampling.magcache import Magnitudes, levels
from wanrun.sampling.noise import initial_noise, step_generator
from wanrun.sampling.schedules import unipc
from wanrun.sampling.tape import taped
from wanrun.sampling.teacache import polynomial
from wanrun.types import Denoiser, Resource, StepCache, Tally

TOY = Path(__file__).parents[2] / "modelfiles" / "wan-toy"
EXPERTS = {role: TOY / f"wan-toy-{role.replace('_', '-')}-Q8_0.gguf" for role in ("high_noise", "low_noise")}
BOUNDARY, STEPS, SHAPE = 0.875, 16, (16, 2, 4, 4)
SIGMAS = unipc(STEPS, 5.0)
POSITIVE, NEGATIVE = torch.randn(2, 4, 256, generator=torch.Generator().manual_seed(8))
CACHES = {
    "easycache": "easycache:threshold=0.3,warmup=0.1",
    "magcache": f"magcache:{','.join(['0.97'] * (STEPS - 1))},threshold=0.1,longest=2,warmup=0.1",
    "teacache": "teacache:1.5,0,threshold=0.2,warmup=0.1",
    "firstblock": "firstblock:threshold=0.3,warmup=0.1",
}


@dataclass
class Drifting(Resource):
    """A denoiser whose velocity is a known function, and which counts its forwards."""

    forwards: list[tuple[float, float]] = field(default_factory=list)

    def velocity(
        self, latents: Tensor, timestep: float | Tensor, context: Tensor, condition: Tensor | None = None
    ) -> Tensor:
        self.forwards.append((float(timestep), context.mean().item()))
        return torch.tanh(latents) * (2 - float(timestep) / 1000) + context.mean()

    def close(self) -> None: ...


def cached(name: str, denoiser: Denoiser, boundary: float | None = None) -> StepCache:
    cache: StepCache = plugins.bind("step_caches", CACHES[name])(denoiser, SIGMAS, boundary)
    return cache


def walk(cache: StepCache, both: bool = True) -> list[tuple[list[Tensor], Tensor]]:
    """Ask at each step of a path that is known beforehand; the answers, and the latents there."""
    start, end = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(3))
    contexts = [POSITIVE, NEGATIVE] if both else [POSITIVE]
    found = []
    for sigma in SIGMAS[:-1]:
        latents = sigma * start + (1 - sigma) * end
        answers = cache.velocities(latents, 1000 * sigma, contexts)
        found.append((answers, latents))
    return found


def test_easycache_is_the_published_rule() -> None:
    """H-EmbodVis/EasyCache, written out once more: what is decided at each step, and every answer."""
    cache = cached("easycache", Drifting())
    model = Drifting()
    threshold, warmup = 0.3, 0.1
    rate = error = None
    computed: tuple[Tensor, list[Tensor]] | None = None
    before: tuple[Tensor, Tensor] | None = None
    reused = 0
    for index, (answers, latents) in enumerate(walk(cache)):
        must = index < max(1, warmup * STEPS) or index == STEPS - 1
        if before is not None and rate is not None and error is not None:
            error += rate * (latents - before[0]).abs().mean() / before[1].abs().mean()
        if computed is not None and error is not None and not must and error < threshold:
            expected = [each + latents - computed[0] for each in computed[1]]
            reused += 1
        else:
            timestep = 1000 * SIGMAS[index]
            expected = [model.velocity(latents, timestep, each) for each in (POSITIVE, NEGATIVE)]
            if computed is not None:
                rate = (expected[0] - computed[1][0]).abs().mean() / (latents - computed[0]).abs().mean()
                error = torch.tensor(0.0)
            computed = latents, expected
        before = latents, expected[0]
        assert all(
            torch.allclose(one, other, atol=1e-6) for one, other in zip(answers, expected, strict=True)
        )
    assert 4 < reused < STEPS
    assert cache.tally == Tally(2 * STEPS, 2 * reused)


def test_magcache_is_the_published_rule() -> None:
    """Zehong-Ma/MagCache, written out once more."""
    ratios = [1 - 0.002 * step for step in range(1, STEPS)]
    rule, numbers = Magnitudes(levels(ratios), STEPS, threshold=0.08, longest=3), dict[str, float]()
    accumulated, error, row = 1.0, 0.0, 0
    decisions = []
    for step in range(STEPS):
        reuse = rule.reuse(numbers, Signal(step, torch.ones(1), None, torch.ones(1), None), must=step < 3)
        expected = False
        if step >= 3:
            accumulated, row = accumulated * ratios[step - 1], row + 1
            error += abs(1 - accumulated)
            expected = error < 0.08 and row <= 3
        if not expected:
            accumulated, error, row = 1.0, 0.0, 0
        assert reuse == expected
        decisions.append(reuse)
    assert 3 < sum(decisions) < STEPS - 3


def test_magnitudes_of_fewer_steps_are_products() -> None:
    """Half the steps are twice as far apart."""
    ratios = [0.9, 0.8, 0.7, 0.6]
    rule = Magnitudes(levels(ratios), 3, 1.0, 9)
    assert [math.exp(rule._level(place)) for place in (0, 1, 2)] == pytest.approx([1, 0.72, 0.3024])


def test_the_polynomial_has_its_highest_power_first() -> None:
    assert polynomial([2.0, -1.0, 0.5], 3.0) == 2 * 9 - 3 + 0.5


@pytest.mark.parametrize("name", CACHES)
def test_a_cache_saves_forwards_and_stays_near_the_model(name: str) -> None:
    with load({"diffusion": EXPERTS["low_noise"]}, device="cpu", precision="fp32") as experts:
        cache = cached(name, experts)
        for index, (answers, latents) in enumerate(walk(cache)):
            exact = experts.velocities(latents, 1000 * SIGMAS[index], [POSITIVE, NEGATIVE])
            for one, other in zip(answers, exact, strict=True):
                assert float((one - other).norm() / other.norm()) < 0.5
        assert cache.tally.forwards == 2 * STEPS
        assert 0.2 < cache.tally.skipped / cache.tally.forwards < 0.9


@pytest.mark.parametrize("name", CACHES)
def test_branches_have_states_of_their_own(name: str) -> None:
    """With the branches swapped for equal ones, the first answers as it did alone."""
    with load({"diffusion": EXPERTS["low_noise"]}, device="cpu", precision="fp32") as experts:
        both, alone = walk(cached(name, experts)), walk(cached(name, experts), both=False)
    for (two, _), (one, _) in zip(both, alone, strict=True):
        assert torch.allclose(two[0], one[0], atol=1e-4)
        assert not torch.allclose(two[1], two[0], atol=1e-2)


def test_the_other_expert_and_the_last_step_are_computed() -> None:
    """What the first expert said is forgotten: the second's first answer is its own."""
    model = Drifting()
    cache = cached("easycache", model, BOUNDARY)
    walk(cache)
    asked = [timestep for timestep, _ in model.forwards]
    switch = next(1000 * sigma for sigma in SIGMAS if sigma < BOUNDARY)
    assert switch in asked
    assert 1000 * SIGMAS[-2] in asked
    # two computed forwards give a rate, and only the third may be guessed
    after = SIGMAS.index(switch / 1000)
    assert 1000 * SIGMAS[after + 1] in asked


def test_steps_that_are_always_computed() -> None:
    span = Span(tuple(SIGMAS), BOUNDARY, 0.5)
    high = sum(sigma >= BOUNDARY for sigma in SIGMAS[:-1])
    protected = [span.protects(1000 * sigma) for sigma in SIGMAS[:-1]]
    expected = [
        index < high / 2 or (high <= index < high + (STEPS - high) / 2) or index == STEPS - 1
        for index in range(STEPS)
    ]
    assert protected == expected
    assert [span.place(1000 * sigma) for sigma in SIGMAS[:-1]] == pytest.approx(range(STEPS))
    # the official solvers tell the model whole timesteps
    assert span.protects(float(int(1000 * SIGMAS[0])))


def test_a_branch_that_joins_is_computed_with_the_other() -> None:
    """Where guidance begins within its interval, there is nothing to reuse for the second branch."""
    model = Drifting()
    cache = cached("easycache", model)
    latents = torch.ones(SHAPE)
    for index, sigma in enumerate(SIGMAS[:8]):
        contexts = [POSITIVE] if index < 6 else [POSITIVE, NEGATIVE]
        cache.velocities(latents * sigma, 1000 * sigma, contexts)
    joined = [context for timestep, context in model.forwards if timestep == 1000 * SIGMAS[6]]
    assert joined == pytest.approx([POSITIVE.mean().item(), NEGATIVE.mean().item()])


class Killed(Exception):
    pass


@pytest.mark.parametrize("killed_at", [3, 7, 11, STEPS - 1])
@pytest.mark.parametrize("name", CACHES)
def test_a_stopped_run_continues_to_the_same_bits(name: str, killed_at: int) -> None:
    guidance = Guidance(3.0, 2.0, BOUNDARY, start=0.99)

    def run(record: Callable[[int, bytes], None], played: Sequence[bytes] = ()) -> tuple[Tensor, Tally]:
        with load(EXPERTS, BOUNDARY, device="cpu", precision="bf16") as experts:
            cache = cached(name, experts, BOUNDARY)
            velocity = taped(guided(cache, POSITIVE, NEGATIVE, guidance), played, record, cache)
            latents: Tensor = plugins.bind("samplers", "unipc")(
                velocity, initial_noise(SHAPE, 5), torch.tensor(SIGMAS, dtype=torch.float64),
                step_generator(5), lambda *step: None,
            )  # fmt: skip
            return latents, cache.tally

    kept: list[bytes] = []

    def dying(index: int, data: bytes) -> None:
        if index == killed_at:
            raise Killed
        kept.append(data)

    with pytest.raises(Killed):
        run(dying)
    resumed, counted = run(lambda index, data: None, kept)
    whole, total = run(lambda index, data: None)
    assert torch.equal(resumed, whole)
    assert counted == total
    assert total.skipped > 0


@pytest.mark.parametrize("note", [b"", b"{}", b"[]", b'{"branches": 1, "skipped": 0, "numbers": 3}'])
def test_a_damaged_note_is_refused(note: bytes) -> None:
    with pytest.raises(FormatError, match="no note of a step cache"):
        cached("easycache", Drifting()).replay(torch.zeros(SHAPE), 900.0, note)


def test_a_note_is_small_and_readable() -> None:
    cache = cached("easycache", Drifting())
    walk(cache)
    assert set(json.loads(cache.note())) == {"branches", "skipped", "numbers"}


def test_a_cache_between_blocks_needs_a_backend_that_lets_it_there() -> None:
    with pytest.raises(PluginError, match="use easycache"):
        walk(cached("firstblock", Drifting()))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("magcache", "needs ratios"),
        ("teacache:threshold=0.1", "needs coefficients"),
        ("easycache:threshold=-1", "from 0 to 10"),
        ("firstblock:speed=2", "does not take speed"),
        ("megacache", "is not known"),
    ],
)
def test_other_options_are_refused(text: str, expected: str) -> None:
    with pytest.raises(InvalidRequest, match=expected):
        plugins.bind("step_caches", text)


def test_ratios_are_above_0() -> None:
    with pytest.raises(InvalidRequest, match="above 0"):
        plugins.bind("step_caches", "magcache:1,0,1")(Drifting(), SIGMAS, None)
