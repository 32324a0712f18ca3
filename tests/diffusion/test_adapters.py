"""Adapters through the backend: each expert gets its own, and a backend that takes none says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import wanrun
from tests.diffusion.test_branches import HIGH, LOW, inputs, relative
from wanrun import pipeline
from wanrun.diffusion.experts import load
from wanrun.errors import FormatError, PluginError
from wanrun.request import resolve
from wanrun.types import Adapter, Bundle, Component, Denoiser


def component(path: Path) -> Component:
    return Component("adapter", path, f"sha256:{path.stem}", path.stat().st_size, path.name)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Adapter]:
    """A LoRA of the feed-forward layers of wan-toy."""

    def build(role: str, scale: float = 1.0, width: int = 256) -> Adapter:
        rng = torch.Generator().manual_seed(1)
        state: dict[str, Tensor] = {}
        for layer in range(4):
            name = f"diffusion_model.blocks.{layer}.ffn.0"
            state[f"{name}.lora_down.weight"] = torch.randn(4, width, generator=rng) / 16
            state[f"{name}.lora_up.weight"] = torch.randn(1024, 4, generator=rng) / 2
        path = tmp_path / f"lora-{width}.safetensors"
        save_file(state, str(path))
        return Adapter(role, scale, component(path))

    return build


def velocities(*adapters: Adapter, precision: str = "fp32", resident: int = 0) -> tuple[Tensor, Tensor]:
    """Of the high-noise and of the low-noise expert."""
    latents, contexts = inputs()
    files = {"high_noise": HIGH, "low_noise": LOW}
    with load(files, 0.875, "cpu", precision, resident, adapters) as experts:
        return experts.velocity(latents, 937.0, contexts[0]), experts.velocity(latents, 500.0, contexts[0])


def test_each_expert_gets_its_own(make: Callable[..., Adapter]) -> None:
    high, low = velocities()
    for role, changed in (("high_noise", (True, False)), ("low_noise", (False, True)), ("", (True, True))):
        found = velocities(make(role))
        assert tuple(not torch.equal(*pair) for pair in zip(found, (high, low), strict=True)) == changed
    assert all(map(torch.equal, velocities(make("", 0.0)), (high, low)))


@pytest.mark.parametrize("precision", ["bf16", "int8"])
@pytest.mark.parametrize("resident", [0, 1 << 30])
def test_every_precision(make: Callable[..., Adapter], precision: str, resident: int) -> None:
    exact, plain = velocities(make("")), velocities()
    found = velocities(make(""), precision=precision, resident=resident)
    for ours, theirs, without in zip(found, exact, plain, strict=True):
        assert relative(ours, theirs) < 0.05 < relative(without, theirs)


def test_a_file_of_another_model_is_refused(make: Callable[..., Adapter]) -> None:
    with pytest.raises(FormatError, match=r"does not fit this model: .* make 1024 × 128"):
        velocities(make("", width=128))


def test_a_bundles_adapters_reach_the_experts(make: Callable[..., Adapter]) -> None:
    toy = wanrun.load("wan-toy")
    bundle = replace(toy, adapters=(make("high_noise"),))
    latents, contexts = inputs()
    with (
        wanrun.load_denoiser(bundle, "cpu", "fp32") as adapted,
        wanrun.load_denoiser(toy, "cpu", "fp32") as bare,
    ):
        pairs = [
            (adapted.velocity(latents, step, contexts[0]), bare.velocity(latents, step, contexts[0]))
            for step in (990.0, 100.0)
        ]
    assert [torch.equal(*pair) for pair in pairs] == [False, True]
    request = resolve(bundle, "a ball", {"seed": 1})
    assert pipeline.provenance(bundle, request)["adapters"] == [
        {"digest": "sha256:lora-256", "role": "high_noise", "scale": 1.0}
    ]
    assert pipeline.provenance(toy, request)["adapters"] == []


def test_backends_of_others(make: Callable[..., Adapter]) -> None:
    """A backend that knows no adapters is used for models without, and refuses the others."""
    given: dict[str, Any] = {}

    def plain(files: Mapping[str, Path], boundary: float | None) -> Denoiser:
        return load(files, boundary)

    def open_to_all(files: Mapping[str, Path], boundary: float | None, **more: Any) -> Denoiser:
        given.update(more)
        return load(files, boundary)

    toy = Bundle("toy", {})
    bundle = replace(toy, adapters=(make(""),))
    files = {"diffusion": HIGH}
    pipeline.with_adapters(plain, toy)(files, None).close()
    pipeline.with_adapters(open_to_all, toy)(files, None).close()
    assert given == {}
    pipeline.with_adapters(open_to_all, bundle)(files, None).close()
    assert given == {"adapters": bundle.adapters}
    with pytest.raises(
        PluginError, match=r"toy needs adapters \(LoRA\), and the backend .* cannot apply any"
    ):
        pipeline.with_adapters(plain, bundle)
