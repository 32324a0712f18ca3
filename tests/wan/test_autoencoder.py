"""Both VAEs against diffusers' on the same weights, and streamed against whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.wan.conftest import diffusers_vae, moving_disc, relative_error, store
from wanrun.errors import FormatError
from wanrun.gguf.weights import open_weights
from wanrun.wan.autoencoder import VAEConfig, WanVAE, vae_config_from_shapes
from wanrun.wan.load import load_vae
from wanrun.wan.statistics import MEAN_16, MEAN_48, STD_16, STD_48
from wanrun.wan.vae import AttentionBlock

TOY = Path(__file__).parents[2] / "modelfiles" / "wan-toy" / "wan-toy-vae.safetensors"
STATISTICS = {"2.1": (MEAN_16, STD_16), "2.2": (MEAN_48, STD_48)}


def _load(path: Path, device: str = "cpu") -> WanVAE:
    with open_weights(path) as weights:
        return load_vae(weights, device, torch.float32)


def _statistics(version: str) -> tuple[torch.Tensor, torch.Tensor]:
    mean, std = (torch.tensor(values).view(1, -1, 1, 1, 1) for values in STATISTICS[version])
    return mean, std


@pytest.mark.parametrize("frames", [1, 5, 13])
@pytest.mark.parametrize("dialect", ["diffusers", "original"])
@pytest.mark.parametrize("version", ["2.1", "2.2"])
def test_encoding_and_decoding_equal_diffusers(
    version: str, dialect: str, frames: int, device: str, tmp_path: Path
) -> None:
    theirs = diffusers_vae(version)
    ours = _load(store(theirs, tmp_path / "vae.safetensors", dialect), device)
    clip = torch.rand(1, 3, frames, 32, 48, generator=torch.Generator().manual_seed(6)) * 2 - 1
    mean, std = _statistics(version)

    latents = (theirs.encode(clip).latent_dist.mode() - mean) / std
    got = ours.encode_stream(clip[0].to(device).unbind(1)).cpu()
    assert got.shape == latents.shape[1:]
    assert relative_error(got, latents[0]) <= 1e-5

    pixels = theirs.decode(latents * std + mean).sample
    decoded = torch.stack(list(ours.decode_stream(latents[0].to(device))), dim=1).cpu()
    assert decoded.shape == clip.shape[1:]
    assert relative_error(decoded, pixels[0]) <= 1e-5


@pytest.mark.parametrize("version", ["2.1", "2.2"])
def test_a_whole_clip_equals_the_stream(version: str, tmp_path: Path) -> None:
    vae = _load(store(diffusers_vae(version), tmp_path / "vae.safetensors", "diffusers"))
    clip = torch.rand(2, 3, 9, 32, 32) * 2 - 1
    whole = vae.encode(clip, {})
    assert relative_error(whole[1], vae.encode_stream(clip[1].unbind(1))) <= 1e-5
    pixels = vae.decode(whole, {}).clamp(-1, 1)
    assert relative_error(pixels[1], torch.stack(list(vae.decode_stream(whole[1])), dim=1)) <= 1e-5


def test_bf16_stays_close_to_fp32() -> None:
    with open_weights(TOY) as weights:
        exact, fast = (load_vae(weights, "cpu", dtype) for dtype in (torch.float32, torch.bfloat16))
    latents = exact.encode_stream(moving_disc(13, 64, 64))
    whole, half = (torch.stack(list(vae.decode_stream(latents))) for vae in (exact, fast))
    assert relative_error(half, whole) <= 1e-2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_never_holds_the_scores_of_all_pairs(dtype: torch.dtype) -> None:
    block = AttentionBlock(48).to(dtype)
    frame = torch.randn(1, 48, 1, 6, 10, dtype=dtype).contiguous(memory_format=torch.channels_last_3d)
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION]):  # which raises where it cannot be used
        assert block.stream(frame, {}).is_contiguous(memory_format=torch.channels_last_3d)


def test_widths_are_read_from_the_shapes_of_the_published_vaes() -> None:
    with torch.device("meta"):
        for config, tensors, parameters in (
            (VAEConfig(96, 96, 16, 1), 194, 126_892_531),
            (VAEConfig(160, 256, 48, 2), 196, 704_688_668),
        ):
            state = WanVAE(config).state_dict()
            assert len(state) == tensors
            assert sum(value.numel() for value in state.values()) == parameters
            assert (
                vae_config_from_shapes({name: tuple(value.shape) for name, value in state.items()}) == config
            )


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = store(torch.nn.Linear(3, 3), tmp_path / "linear.safetensors", "diffusers")
    with pytest.raises(FormatError, match="not a Wan VAE"):
        _load(path)
