"""How many multiplications and additions the networks need, and so how long a machine must take at least."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from wanrun.wan.autoencoder import VAEConfig, WanVAE
from wanrun.wan.config import WanConfig
from wanrun.wan.tiny import TinyConfig, TinyVAE

Size = tuple[int, int, int]


def latent_shape(size: Size) -> tuple[int, int, int, int]:
    """Of a clip of (width, height, frames)."""
    width, height, frames = size
    return 16, (frames - 1) // 4 + 1, height // 8, width // 8


def forward_flop(config: WanConfig, size: Size, text_tokens: int) -> float:
    """Of one forward pass: linear layers, attention, attention to the text."""
    _, frames, height, width = latent_shape(size)
    tokens, dim, layers = frames * height * width // 4, config.width, config.layers
    linear = 2 * tokens * layers * (6 * dim**2 + 2 * dim * config.ffn_width)
    attention = 4 * tokens**2 * layers * dim
    text = 4 * text_tokens * layers * dim * (tokens + dim)
    return linear + attention + text


@torch.inference_mode()
def vae_flop(width: int, size: Size) -> float:
    """Of the VAE's decode by its definition; fewer suffice, see ``wanrun.wan.strips``."""
    with torch.device("meta"):
        vae = WanVAE(VAEConfig(width, width, 16, 1))
        counts = _per_latent_frame(vae, size)
    return counts[0] + counts[1] * (latent_shape(size)[1] - 1)


def _per_latent_frame(vae: WanVAE, size: Size) -> list[int]:
    channels, _, height, width = latent_shape(size)
    counts, past = [], {}  # type: ignore[var-annotated]
    for _ in range(2):
        with FlopCounterMode(display=False) as counter:
            vae.decode(torch.empty(1, channels, 1, height, width), past)
        counts.append(counter.get_total_flops())
    return counts


@torch.inference_mode()
def tiny_flop(size: Size) -> float:
    """Of the tiny decoder's decode by its definition."""
    with torch.device("meta"):
        tiny = TinyVAE(TinyConfig(16, 1))
        with FlopCounterMode(display=False) as counter:
            list(tiny.decode_stream(torch.empty(latent_shape(size))))
    return float(counter.get_total_flops())
