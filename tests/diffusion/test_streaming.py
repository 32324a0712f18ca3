"""A model whose blocks take turns on the device gives what one that lies there whole gives."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.diffusion.test_branches import HIGH, LOW, inputs
from wanrun.diffusion.experts import load
from wanrun.diffusion.streaming import block_bytes, distribute
from wanrun.errors import InvalidRequest
from wanrun.gguf.weights import open_weights
from wanrun.wan.config import WanConfig
from wanrun.wan.context import fold_padding
from wanrun.wan.load import load_transformer
from wanrun.wan.model import WanModel


def opened(path: Path, dtype: torch.dtype = torch.float32) -> WanModel:
    with open_weights(path) as weights:
        return load_transformer(weights, "cpu", dtype)


@torch.inference_mode()
def velocity(model: WanModel, device: str, seed: int = 0) -> Tensor:
    latents, contexts = inputs(seed)
    inside = fold_padding([context.to(device) for context in contexts])
    wide = latents.to(device)[None].expand(2, -1, -1, -1, -1)
    out: Tensor = model(wide, torch.full((2, 1), 900.0, device=device), inside)
    return out.cpu()


@pytest.mark.parametrize("resident", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_streamed_blocks_give_the_same_bits(device: str, resident: int, dtype: torch.dtype) -> None:
    whole, parts = opened(HIGH, dtype).to(device), opened(HIGH, dtype)
    size = max(map(block_bytes, parts.blocks))
    assert distribute(parts, device, resident * size) == 4 - resident
    for seed in (0, 1):
        assert torch.equal(velocity(parts, device, seed), velocity(whole, device, seed))


@pytest.mark.parametrize("layers", [1, 2, 3, 5])
def test_any_number_of_blocks_takes_turns(device: str, layers: int) -> None:
    torch.manual_seed(0)
    whole = WanModel(WanConfig(256, 512, layers, 16, 16, 256)).requires_grad_(False)
    parts = WanModel(whole.config).requires_grad_(False)
    parts.load_state_dict(whole.state_dict())
    whole.to(device)
    assert distribute(parts, device, 0) == layers
    for seed in (0, 1, 0):
        assert torch.equal(velocity(parts, device, seed), velocity(whole, device, seed))


def test_blocks_of_different_sizes_share_the_places() -> None:
    torch.manual_seed(0)
    whole, parts = opened(HIGH), opened(HIGH)
    for model in (whole, parts):  # as a mix has them: some layers in more bits than others
        block = model.blocks[1]
        unpacked = block.self_attn.q.weight()  # type: ignore[union-attr, operator]
        layer = nn.Linear(256, 256)
        layer.weight, layer.bias = nn.Parameter(unpacked, False), block.self_attn.q.bias  # type: ignore[union-attr, assignment]
        block.self_attn.q = layer  # type: ignore[union-attr]
    distribute(parts, "cpu", 0)
    assert torch.equal(velocity(parts, "cpu"), velocity(whole, "cpu"))


def test_two_places_are_all_the_memory_of_streamed_blocks() -> None:
    """What a model's streamed blocks point at lies in two pieces of memory, however many they are."""
    model = opened(HIGH)
    distribute(model, "cpu", 0)
    read_once = {"cross_attn.k", "cross_attn.v", "cross_attn.norm_k"}
    memory = {
        tensor.untyped_storage().data_ptr()
        for block in model.blocks
        for name, tensor in [*block.named_parameters(), *block.named_buffers()]
        if name.rpartition(".")[0] not in read_once
    }
    assert len(memory) == 2


def test_a_dropped_model_leaves_nothing_behind() -> None:
    model = opened(HIGH)
    distribute(model, "cpu", 0)
    velocity(model, "cpu")
    gc.collect()
    gc.disable()
    try:
        gone = [weakref.ref(module) for module in model.modules()]
        del model
        assert not any(each() for each in gone)
    finally:
        gc.enable()


@pytest.mark.gpu
def test_experts_stream_what_does_not_fit() -> None:
    latents, contexts = inputs()
    files = {"high_noise": HIGH, "low_noise": LOW}
    with (
        load(files, 0.875, "cuda", "bf16") as whole,
        load(files, 0.875, "cuda", "bf16", resident_bytes=2_000_000) as parts,
    ):
        for timestep in (950.0, 900.0, 800.0, 700.0):
            ours, theirs = (each.velocities(latents, timestep, contexts) for each in (parts, whole))
            assert all(map(torch.equal, ours, theirs))


def test_negative_room_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="resident_bytes"):
        load({"diffusion": HIGH}, device="cpu", resident_bytes=-1)
