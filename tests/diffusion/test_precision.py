"""How near each way of multiplying comes to float32 on the same file, and 8 bits to bfloat16 over a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import wanrun
from wanrun import pipeline
from wanrun.gguf.policy import GGML, PER_USE, RESIDENT, Policy
from wanrun.gguf.weights import open_weights
from wanrun.request import resolve
from wanrun.wan.config import WanConfig
from wanrun.wan.context import fold_padding
from wanrun.wan.load import bears_int8, fuse_gelu, load_transformer
from wanrun.wan.model import WanModel
from wanrun.wan.requantize import quantize_transformer

TOY = Path(__file__).parents[2] / "modelfiles" / "wan-toy" / "wan-toy-high-noise-Q8_0.gguf"
FAST_GGML = {RESIDENT: 1.0, PER_USE: 1.0, GGML: 9.0}


def policy(way: str) -> Policy:
    """One that multiplies in this ``way`` wherever it can."""
    if way == "int8":
        return Policy(1 << 40, None, int8=True)
    return Policy(1 << 40 if way == RESIDENT else 0, (lambda kind, dtype: FAST_GGML) if way == GGML else None)


@pytest.fixture(scope="module", params=["toy Q8_0", "toy Q4_K_M", "wide Q8_0", "wide Q4_K_M"])
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model, and random blocks of the 1.3B model's width."""
    name, kind = request.param.split()
    source = TOY
    folder = tmp_path_factory.mktemp("models")
    if name == "wide":
        torch.manual_seed(0)
        source = folder / "wide.safetensors"
        save_file(WanModel(WanConfig(1536, 2048, 3, 16, 16, 64)).state_dict(), str(source))
    quantize_transformer(source, folder / "model.gguf", kind, lambda *progress: None)
    return folder / "model.gguf"


@torch.inference_mode()
def velocity(path: Path, dtype: torch.dtype, way: str) -> Tensor:
    with open_weights(path) as weights:
        model = load_transformer(weights, "cpu", dtype, policy(way))
    fuse_gelu(model)
    rng = torch.Generator().manual_seed(0)
    prompts = [torch.randn(count, model.config.text_width, generator=rng) for count in (9, 5)]
    latents = torch.randn(2, 16, 3, 8, 8, generator=rng)
    out: Tensor = model(latents, torch.tensor([[900.0], [900.0]]), fold_padding(prompts))
    return out


def test_velocities_are_within_one_percent_of_float32(file: Path) -> None:
    exact = velocity(file, torch.float32, PER_USE)
    assert torch.equal(velocity(file, torch.float32, RESIDENT), exact)
    for way in (PER_USE, RESIDENT):
        ours = velocity(file, torch.bfloat16, way)
        assert float((ours - exact).norm() / exact.norm()) < 0.01, way


def test_products_of_packed_weights_are_within_two_percent(file: Path) -> None:
    """ggml rounds activations to 8 bits, 256 together, as llama.cpp and stable-diffusion.cpp do."""
    exact, ours = velocity(file, torch.float32, PER_USE), velocity(file, torch.bfloat16, GGML)
    assert float((ours - exact).norm() / exact.norm()) < 0.02


def test_8_bits_stay_near_bfloat16(file: Path) -> None:
    exact, ours = velocity(file, torch.bfloat16, PER_USE), velocity(file, torch.bfloat16, "int8")
    assert float((ours - exact).norm() / exact.norm()) < 0.02


def test_latents_of_a_run_in_8_bits_are_those_in_bfloat16() -> None:
    bundle = wanrun.load("wan-toy")
    bf16, int8 = (
        pipeline.prompt_to_latents(
            bundle,
            resolve(bundle, "a red ball bouncing on a blue surface", {"seed": 1, "steps": 8, "precision": p}),
            device="cpu",
        ).flatten()
        for p in ("bf16", "int8")
    )
    assert not torch.equal(bf16, int8)
    assert float(torch.cosine_similarity(bf16, int8, dim=0)) >= 0.995


def test_sensitive_layers_are_left_alone() -> None:
    every = [f"blocks.{block}.{layer}" for block in range(4) for layer in ("self_attn.q", "ffn.0", "ffn.2")]
    assert [name for name in every if bears_int8(name, 4)] == [
        *("blocks.1.self_attn.q", "blocks.1.ffn.0", "blocks.1.ffn.2"),
        *("blocks.2.self_attn.q", "blocks.2.ffn.0", "blocks.2.ffn.2"),
    ]
    for name in ("head.head", "time_embedding.0", "text_embedding.2", "blocks.1.cross_attn.k"):
        assert not bears_int8(name, 4)
