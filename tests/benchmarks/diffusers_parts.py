"""diffusers' Wan networks loaded from the files that wanrun runs, by diffusers' own layers.

``from_single_file`` would want the Hub for a config, so the networks are built here from the tensors' shapes
and their parameters put in as its GGUF quantiser does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from diffusers.models.model_loading_utils import load_gguf_checkpoint
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed
from diffusers.quantizers.gguf.utils import GGUFParameter, _replace_with_gguf_linear
from safetensors.torch import load_file
from torch import Tensor, nn

from wanrun.wan.config import HEAD_DIM, PATCH, TEXT_TOKENS, config_from_shapes
from wanrun.wan.names import canonical

_MOST_POSITIONS = 1024


def load_transformer(path: Path) -> Any:
    """The network with its matrices packed, computing in bf16."""
    stored = load_gguf_checkpoint(str(path))
    config = config_from_shapes(_shapes(path))
    with torch.device("meta"):
        model = WanTransformer3DModel(
            patch_size=PATCH, num_attention_heads=config.heads, attention_head_dim=HEAD_DIM,
            in_channels=config.in_channels, out_channels=config.out_channels, text_dim=config.text_width,
            ffn_dim=config.ffn_width, num_layers=config.layers, cross_attn_norm=True,
            qk_norm="rms_norm_across_heads", rope_max_seq_len=_MOST_POSITIONS,
        )  # fmt: skip
    state = {theirs: stored[ours] for ours, theirs in canonical(model.state_dict()).items()}
    _replace_with_gguf_linear(model, torch.bfloat16, state)
    kept = tuple(WanTransformer3DModel._keep_in_fp32_modules)
    for name, value in state.items():
        if isinstance(value, GGUFParameter):
            value.requires_grad_(False)
            _put(model, name, value)
        else:
            dtype = torch.float32 if any(part in name for part in kept) else torch.bfloat16
            _put(model, name, nn.Parameter(value.to(dtype), requires_grad=False))
    model.rope = WanRotaryPosEmbed(HEAD_DIM, PATCH, _MOST_POSITIONS)  # its tables are on the meta device
    return model.eval()


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    from wanrun.gguf.header import read_header

    return {name: tuple(info.shape) for name, info in read_header(path).tensors.items()}


def _put(model: nn.Module, name: str, value: nn.Parameter) -> None:
    owner, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(owner), leaf, value)


def velocity(model: Any, context: Tensor, latents: Tensor, timestep: float) -> Tensor:
    """One forward pass over the context padded to its full length, as diffusers' pipeline pads it."""
    padded = torch.cat([context, context.new_zeros(TEXT_TOKENS - len(context), context.shape[1])])
    out: Tensor = model(
        latents[None].bfloat16(),
        torch.tensor([timestep], device=latents.device),
        padded[None].bfloat16(),
        return_dict=False,
    )[0]
    return out[0].float()


def load_vae(path: Path) -> Any:
    """The Wan2.1 VAE in bf16."""
    stored = load_file(str(path))
    width = stored["decoder.head.0.gamma"].shape[0]
    with torch.device("meta"):
        vae = AutoencoderKLWan(base_dim=width)
    for ours, theirs in canonical(vae.state_dict()).items():
        value = stored[ours].bfloat16().reshape(vae.state_dict()[theirs].shape)
        _put(vae, theirs, nn.Parameter(value, requires_grad=False))
    return vae.eval()


def decode(vae: Any, latents: Tensor) -> Tensor:
    """Pixels (1, 3, frames, height, width)."""
    mean, std = (latents.new_tensor(values).view(1, -1, 1, 1, 1) for values in
                 (vae.config.latents_mean, vae.config.latents_std))  # fmt: skip
    pixels: Tensor = vae.decode((latents[None] * std + mean).bfloat16()).sample
    return pixels
