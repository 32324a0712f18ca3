"""What the torch backend refuses, and how it conditions on a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.wan.conftest import diffusers_transformer, relative_error, store
from wanrun.diffusion.experts import load
from wanrun.errors import InvalidRequest


@pytest.fixture
def make(tmp_path: Path) -> Callable[[int, int], Path]:
    def build(channels: int, out: int) -> Path:
        return store(diffusers_transformer(channels, out, 256), tmp_path / "model.safetensors", "original")

    return build


def test_dimensions_that_do_not_fit_are_refused(make: Callable[[int, int], Path]) -> None:
    context = torch.zeros(3, 64)
    with load({"diffusion": make(16, 16)}, device="cpu", precision="fp32") as denoiser:
        for latents, timestep, text, reason in (
            (torch.zeros(48, 1, 4, 4), 1.0, context, "expected"),
            (torch.zeros(16, 1, 3, 4), 1.0, context, "2×2 patches"),
            (torch.zeros(16, 3, 4, 4), torch.zeros(2), context, "2 timesteps"),
            (torch.zeros(16, 1, 4, 4), 1.0, torch.zeros(3, 65), "expected"),
            (torch.zeros(16, 1, 4, 4), 1.0, torch.zeros(4097, 64), "4097 tokens"),
        ):
            with pytest.raises(InvalidRequest, match=reason):
                denoiser.velocity(latents, timestep, text)


@torch.no_grad()
def test_a_condition_is_joined_after_the_latents(make: Callable[[int, int], Path]) -> None:
    path = make(36, 16)
    theirs = diffusers_transformer(36, 16, 256)
    latents, condition, context = torch.randn(16, 2, 4, 4), torch.randn(20, 2, 4, 4), torch.randn(512, 64)
    joined = torch.cat([latents, condition])[None]
    expected = theirs(joined, torch.tensor([900.0]), context[None], return_dict=False)[0][0]
    with load({"diffusion": path}, device="cpu", precision="fp32") as denoiser:
        assert relative_error(denoiser.velocity(latents, 900.0, context, condition), expected) <= 1e-5
        with pytest.raises(InvalidRequest, match="image-to-video"):
            denoiser.velocity(joined[0], 900.0, context)


def test_roles_that_make_no_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="high_noise"):
        load({"high_noise": tmp_path})
    with pytest.raises(InvalidRequest, match="boundary"):
        load({"high_noise": tmp_path, "low_noise": tmp_path})
    with pytest.raises(InvalidRequest, match="cannot be used here"):
        load({"diffusion": tmp_path}, device="warp9")
    with pytest.raises(InvalidRequest, match="precision"):
        load({"diffusion": tmp_path}, precision="int3")
