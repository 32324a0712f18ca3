"""Random Wan checkpoints of every variant's wiring, made with diffusers and stored in every dialect."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors.torch import save_file

from wanrun.wan.names import canonical

#: Input channels, latent channels and width of a small model with each variant's wiring.
VARIANTS = {"t2v": (16, 16, 256), "i2v-a14b": (36, 16, 256), "ti2v-5b": (48, 48, 384)}


def diffusers_transformer(
    in_channels: int, out_channels: int, width: int, **changes: Any
) -> WanTransformer3DModel:
    """A random transformer with non-trivial norms and modulation."""
    config: dict[str, Any] = {
        "patch_size": (1, 2, 2),
        "num_attention_heads": width // 128,
        "attention_head_dim": 128,
        "in_channels": in_channels,
        "out_channels": out_channels,
        "text_dim": 64,
        "ffn_dim": 2 * width,
        "num_layers": 2,
        "cross_attn_norm": True,
        "qk_norm": "rms_norm_across_heads",
    }
    torch.manual_seed(3)
    model = WanTransformer3DModel(**config | changes)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def diffusers_vae(version: str) -> AutoencoderKLWan:
    """A random VAE: version "2.1" at width 16, version "2.2" at widths 16 and 32."""
    torch.manual_seed(4)
    if version == "2.1":
        vae = AutoencoderKLWan(base_dim=16)
    else:
        # two of the published statistics' lengths are all that a 48-channel model needs of its config
        vae = AutoencoderKLWan(
            base_dim=16, decoder_base_dim=32, z_dim=48, in_channels=12, out_channels=12, patch_size=2,
            is_residual=True, scale_factor_spatial=16,
        )  # fmt: skip
    with torch.no_grad():
        for name, parameter in vae.named_parameters():
            if "gamma" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return vae.eval()


def store(module: torch.nn.Module, path: Path, dialect: str) -> Path:
    """The module's weights as a safetensors file under diffusers', the original or Comfy's names."""
    state = {name: value.contiguous() for name, value in module.state_dict().items()}
    if dialect != "diffusers":
        prefix = "model.diffusion_model." if dialect == "comfy" else ""
        state = {prefix + name: state[stored] for name, stored in canonical(state).items()}
    save_file(state, str(path))
    return path


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def relative_error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Relative L2 distance."""
    return float((ours - theirs).norm() / theirs.norm())


def moving_disc(frames: int, height: int, width: int) -> list[torch.Tensor]:
    """A red disc that moves over a shaded ground, (3, height, width) in -1..1."""
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    ground = torch.tensor([0.9, 0.9, 0.95]).view(3, 1, 1) * (1 - 0.2 * row / height)
    red = torch.tensor([0.9, 0.1, 0.1]).view(3, 1, 1)
    clip = []
    for index in range(frames):
        x, y = width * (0.2 + 0.05 * index), height * (0.3 + 0.03 * index)
        disc = torch.sigmoid(0.14 * height - ((column - x).square() + (row - y).square()).sqrt())
        clip.append(2 * (ground * (1 - disc) + red * disc) - 1)
    return clip
