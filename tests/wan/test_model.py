"""The transformer against diffusers' on the same weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.wan.conftest import VARIANTS, diffusers_transformer, relative_error, store
from wanrun.errors import FormatError, InvalidRequest
from wanrun.gguf.weights import open_weights
from wanrun.wan.config import WanConfig, config_from_shapes
from wanrun.wan.context import fold_padding
from wanrun.wan.load import load_transformer
from wanrun.wan.model import WanModel


def _load(path: Path, dtype: torch.dtype = torch.float32, device: str = "cpu") -> WanModel:
    with open_weights(path) as weights:
        return load_transformer(weights, device, dtype)


def _velocity(model: WanModel, latents: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
    """Computed where the model lies."""
    device = model.patch_embedding.weight.device
    out: Tensor = model(latents.to(device), timestep.to(device), fold_padding([context.to(device)]))
    return out.cpu()


def _inputs(channels: int, tokens: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    latents = torch.randn(1, channels, 3, 6, 8, generator=generator)
    return latents, torch.randn(tokens, 64, generator=generator)


def _padded(context: torch.Tensor) -> torch.Tensor:
    return torch.cat([context, context.new_zeros(512 - len(context), context.shape[1])])[None]


@pytest.mark.parametrize("dialect", ["diffusers", "original", "comfy"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_velocity_equals_diffusers(variant: str, dialect: str, device: str, tmp_path: Path) -> None:
    channels, out, width = VARIANTS[variant]
    theirs = diffusers_transformer(channels, out, width)
    ours = _load(store(theirs, tmp_path / "model.safetensors", dialect), device=device)
    latents, context = _inputs(channels)
    timestep = torch.tensor([[937.0]])
    expected = theirs(latents, timestep[0], _padded(context), return_dict=False)[0]
    assert relative_error(_velocity(ours, latents, timestep, context), expected) <= 1e-5


@pytest.mark.parametrize("variant", VARIANTS)
def test_bfloat16_stays_close_to_float32(variant: str, device: str, tmp_path: Path) -> None:
    channels, out, width = VARIANTS[variant]
    theirs = diffusers_transformer(channels, out, width)
    ours = _load(store(theirs, tmp_path / "model.safetensors", "diffusers"), torch.bfloat16, device)
    latents, context = _inputs(channels)
    expected = theirs(latents, torch.tensor([500.0]), _padded(context), return_dict=False)[0]
    got = _velocity(ours, latents, torch.tensor([[500.0]]), context)
    assert got.dtype == torch.float32
    assert 0 < relative_error(got, expected) <= 1e-2


def test_one_timestep_per_latent_frame_equals_diffusers(tmp_path: Path) -> None:
    channels, out, width = VARIANTS["ti2v-5b"]
    theirs = diffusers_transformer(channels, out, width)
    ours = _load(store(theirs, tmp_path / "model.safetensors", "diffusers"))
    latents, context = _inputs(channels)
    frames = torch.tensor([[0.0, 700.0, 700.0]])
    per_token = frames[0].repeat_interleave(3 * 4)[None]
    expected = theirs(latents, per_token, _padded(context), return_dict=False)[0]
    assert relative_error(ours(latents, frames, fold_padding([context])), expected) <= 1e-5


@pytest.mark.parametrize(
    ("width", "ffn", "channels", "out"),
    [(1536, 8960, 16, 16), (5120, 13824, 36, 16), (3072, 14336, 48, 48)],
    ids=["1.3b", "i2v-a14b", "ti2v-5b"],
)
def test_a_block_of_real_width_equals_diffusers(
    width: int, ffn: int, channels: int, out: int, tmp_path: Path
) -> None:
    theirs = diffusers_transformer(channels, out, width, ffn_dim=ffn, num_layers=1)
    ours = _load(store(theirs, tmp_path / "model.safetensors", "diffusers"))
    latents, context = _inputs(channels)
    expected = theirs(latents, torch.tensor([250.0]), _padded(context), return_dict=False)[0]
    assert relative_error(ours(latents, torch.tensor([[250.0]]), fold_padding([context])), expected) <= 1e-5


@pytest.mark.parametrize("tokens", [1, 60, 511, 512])
def test_folded_padding_equals_512_rows(tokens: int, tmp_path: Path) -> None:
    theirs = diffusers_transformer(*VARIANTS["t2v"])
    ours = _load(store(theirs, tmp_path / "model.safetensors", "diffusers"))
    latents, context = _inputs(16, tokens)
    expected = theirs(latents, torch.tensor([100.0]), _padded(context), return_dict=False)[0]
    assert relative_error(ours(latents, torch.tensor([[100.0]]), fold_padding([context])), expected) <= 1e-5


def test_a_batch_of_prompts_equals_one_at_a_time() -> None:
    torch.manual_seed(0)
    model = WanModel(WanConfig(256, 512, 2, 16, 16, 64))
    latents = torch.randn(2, 16, 2, 4, 4)
    prompts = [torch.randn(3, 64), torch.randn(9, 64)]
    steps = torch.tensor([[900.0], [100.0]])
    together = model(latents, steps, fold_padding(prompts))
    for index, prompt in enumerate(prompts):
        alone = model(latents[index : index + 1], steps[index : index + 1], fold_padding([prompt]))
        assert relative_error(together[index], alone[0]) < 1e-5


def test_more_than_eight_windows_of_tokens_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="4097 tokens"):
        fold_padding([torch.zeros(4097, 8)])


def test_a_long_prompt_has_no_padding_and_a_short_one_beside_it_all_of_its_own() -> None:
    context = fold_padding([torch.ones(600, 4), torch.ones(500, 4)])
    assert context.rows.shape == (2, 600, 4)
    assert torch.equal(context.bias[0], torch.zeros(1, 1, 600))
    weights = context.bias[1].flatten().exp()
    assert torch.equal(weights[:500], torch.ones(500))
    assert weights[500].item() == pytest.approx(12)
    assert torch.equal(weights[501:], torch.zeros(99))


def test_config_is_read_from_the_shapes_of_the_published_models() -> None:
    shapes = {
        "head.head.weight": (192, 3072),
        "patch_embedding.weight": (3072, 48, 1, 2, 2),
        "text_embedding.0.weight": (3072, 4096),
        **{f"blocks.{index}.ffn.0.weight": (14336, 3072) for index in range(30)},
    }
    assert config_from_shapes(shapes) == WanConfig(3072, 14336, 30, 48, 48, 4096)
    assert config_from_shapes(shapes).heads == 24
    del shapes["blocks.7.ffn.0.weight"]
    with pytest.raises(FormatError, match="missing"):
        config_from_shapes(shapes)


def test_a_missing_and_a_misshapen_tensor_are_named(tmp_path: Path) -> None:
    theirs = diffusers_transformer(*VARIANTS["t2v"])
    del theirs.blocks[1].attn1.norm_q
    with pytest.raises(FormatError, match=r"blocks\.1\.self_attn\.norm_q\.weight"):
        _load(store(theirs, tmp_path / "missing.safetensors", "diffusers"))
    theirs = diffusers_transformer(*VARIANTS["t2v"])
    theirs.blocks[0].norm2.bias = torch.nn.Parameter(torch.zeros(5))
    with pytest.raises(FormatError, match=r"blocks\.0\.norm3\.bias \(5,\), expected \(256,\)"):
        _load(store(theirs, tmp_path / "shape.safetensors", "diffusers"))
