"""Noise: the same numbers as torch and diffusers draw on the CPU, and seeds that mean one thing."""

from __future__ import annotations

import pytest
import torch
from diffusers.utils.torch_utils import randn_tensor

from wanrun.errors import InvalidRequest
from wanrun.sampling.noise import initial_noise, step_generator

SHAPE = (16, 5, 8, 8)


def test_is_what_a_diffusers_pipeline_starts_from() -> None:
    theirs = randn_tensor((1, *SHAPE), generator=torch.Generator("cpu").manual_seed(42), dtype=torch.float32)
    ours = initial_noise(SHAPE, 42)
    assert ours.dtype == torch.float32
    assert ours.device.type == "cpu"
    assert torch.equal(ours, theirs[0])


def test_begins_with_the_published_numbers_of_seed_0() -> None:
    assert initial_noise((16,), 0)[:4].tolist() == pytest.approx(
        [-1.1258, -1.1524, -0.2506, -0.4339], abs=5e-5
    )


def test_the_global_generator_is_neither_read_nor_moved() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = initial_noise(SHAPE, 7)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(initial_noise(SHAPE, 7), first)


def test_seeds_differ() -> None:
    assert not torch.equal(initial_noise(SHAPE, 0), initial_noise(SHAPE, 1))


def test_noise_of_the_steps_is_not_the_initial_noise() -> None:
    initial = initial_noise((4096,), 7)
    added = torch.randn(4096, generator=step_generator(7))
    assert abs(torch.corrcoef(torch.stack([initial, added]))[0, 1].item()) < 0.06


@pytest.mark.parametrize("seed", [-1, 2**32, 2**64])
def test_a_seed_that_would_repeat_another_is_refused(seed: int) -> None:
    with pytest.raises(InvalidRequest, match=f"0 to 4294967295, not {seed}"):
        initial_noise(SHAPE, seed)
    with pytest.raises(InvalidRequest):
        step_generator(seed)


@pytest.mark.parametrize("shape", [(16, 0, 8, 8), (16, -1, 8, 8), (2**20, 2**20, 1, 1)])
def test_absurd_shapes_are_refused_before_allocation(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRequest, match="shape"):
        initial_noise(shape, 0)
