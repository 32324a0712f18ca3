"""Trains wan-toy's VAE: Wan2.1's architecture at width 16, on rendered clips."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
import world
from checkpoint import Run
from torch import Tensor
from torch.nn import functional as F

from wanrun.wan.autoencoder import VAEConfig, WanVAE

CONFIG = VAEConfig(encoder_width=16, decoder_width=16, latent_channels=16, patch=1)
KL_WEIGHT = 1e-4


def schedule(step: int, steps: int, peak: float) -> float:
    """Learning rate: 100 steps of warm-up, then a cosine down to 2 %."""
    warm = min(1.0, (step + 1) / 100)
    return peak * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def batch(rng: np.random.Generator, size: int, frames: int, device: str) -> Tensor:
    """Random clips of ``frames`` frames, cut anywhere from the whole ones."""
    clips = world.render([world.sample(rng, held=bool(rng.random() < 0.125)) for _ in range(size)], device)
    start = int(rng.integers(0, world.FRAMES - frames + 1))
    return clips[:, :, start : start + frames]


def loss_of(vae: WanVAE, clips: Tensor) -> tuple[Tensor, Tensor]:
    """Reconstruction plus a light pull of the posterior to a unit Gaussian; and the plain L1 for the log."""
    moments = vae.conv1(vae.encoder.stream(clips, {}))
    mean, log_variance = moments.chunk(2, dim=1)
    log_variance = log_variance.clamp(-20, 10)
    z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
    out = vae.decoder.stream(vae.conv2(z), {})
    error = (out - clips).abs()
    # the object covers a twentieth of the picture and is all that matters
    ground = clips[:, :, :, :1, :1]
    away = F.max_pool3d((clips - ground).abs().amax(1, keepdim=True), (1, 5, 5), 1, (0, 2, 2))
    weight = 1 + 6 * (away > 0.1).float()
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
    return (error * weight).mean() + KL_WEIGHT * kl, error.mean()


def train(run: Run, size: int, frames: int, peak: float = 2e-3) -> WanVAE:
    """Train to ``run.steps`` from wherever the last run stopped."""
    torch.manual_seed(1)
    vae = WanVAE(CONFIG).to(run.device)
    optimiser = torch.optim.AdamW(vae.parameters(), lr=peak, betas=(0.9, 0.98), weight_decay=0.0)
    for step in run.loop({"vae": vae, "optimiser": optimiser}):
        rng = np.random.default_rng((1, step))
        for group in optimiser.param_groups:
            group["lr"] = schedule(step, run.steps, peak)
        loss, error = loss_of(vae, batch(rng, size, frames, run.device))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
        if step % 10 == 0:
            run.log(step, loss=loss.item(), l1=error.item())
    return vae


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--frames", type=int, default=9)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent.parent / "training")
    options = parser.parse_args()
    train(Run(options.folder, "vae", options.steps, options.device), options.batch, options.frames)
