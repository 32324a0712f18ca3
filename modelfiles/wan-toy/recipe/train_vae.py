"""Trains wan-toy's VAE: Wan2.1's architecture at width 16, on rendered clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import world
from checkpoint import Run
from optimise import Optimiser, cosine, narrow
from torch import Tensor
from torch.nn import functional as F

from wanrun.wan.autoencoder import VAEConfig, WanVAE
from wanrun.wan.vae import AttentionBlock, ResidualBlock

CONFIG = VAEConfig(encoder_width=16, decoder_width=16, latent_channels=16, patch=1)
NOISE, EDGE_WEIGHT, SIZE_WEIGHT = 0.1, 0.5, 1e-3


def batch(rng: np.random.Generator, clips: int, frames: int, side: int, device: str) -> Tensor:
    """Random clips cut from anywhere in time, and in space around the object."""
    start = int(rng.integers(0, world.FRAMES - frames + 1))
    scenes = [world.sample(rng, held=bool(rng.random() < 0.125), pairs=0.4) for _ in range(clips)]
    scenes = [world.cut(scene, start, frames) for scene in scenes]
    pixels = world.render(scenes, device)
    if side == world.SIZE:
        return pixels
    around = [
        world.SIZE * rng.choice(scene.things).centre.mean(0).numpy() - side / 2 + rng.uniform(-10, 10, 2)
        for scene in scenes
    ]
    corners = np.clip(np.stack(around), 0, world.SIZE - side).astype(int)
    return torch.stack(
        [clip[..., y : y + side, x : x + side] for clip, (x, y) in zip(pixels, corners, strict=True)]
    )


def initialise(vae: WanVAE) -> None:
    """Variance-preserving convolutions, and residual branches that start at zero: much faster to train."""
    for layer in vae.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Conv3d):
            torch.nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)
            torch.nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        if isinstance(layer, torch.nn.Conv3d):
            layer.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # a tenth faster
    for layer in vae.modules():
        if isinstance(layer, ResidualBlock):
            torch.nn.init.zeros_(layer.residual["6"].weight)
        if isinstance(layer, AttentionBlock):
            torch.nn.init.zeros_(layer.proj.weight)


#: Of each stage: until which part of its steps a batch has (clips, frames, side). Pictures first, then
#: short cut-outs, then whole clips.
SHAPES = {
    "vae": ((0.45, (24, 1, 32)), (0.8, (6, 5, 32)), (1.0, (2, 9, 64))),
    "vae-motion": ((0.6, (4, 17, 48)), (1.0, (3, 17, 64))),
}
PEAK_RATE = {"vae": 2e-3, "vae-motion": 1e-3}
_BEFORE = {"vae-motion": "vae"}


def clip_shape(stage: str, progress: float) -> tuple[int, int, int]:
    """(clips, frames, side) of a batch at this part of the stage's steps."""
    return next(shape for end, shape in SHAPES[stage] if progress < end)


def loss_of(vae: WanVAE, clips: Tensor) -> tuple[Tensor, Tensor]:
    """Reconstruction from slightly noisy latents of about unit size; and the plain L1 for the log.

    Wan reads only the posterior's mean, so a fixed noise can stand for it.
    """
    latents = vae.encode(clips, {})
    error = vae.decode(latents + NOISE * torch.randn_like(latents), {}) - clips
    # the object covers a twentieth of the picture and is all that matters
    ground = clips[:, :, :, :1, :1]
    away = F.max_pool3d((clips - ground).abs().amax(1, keepdim=True), (1, 5, 5), 1, (0, 2, 2))
    weight = 1 + 6 * (away > 0.1).float()
    edges = [(weight * error).diff(dim=dim).abs().mean() for dim in (3, 4)]
    level = error.abs()
    loss = (level * weight).mean() + EDGE_WEIGHT * sum(edges) + SIZE_WEIGHT * latents.square().mean()
    return loss, level.mean()


def train(run: Run) -> WanVAE:
    """Train the stage ``run.name`` to ``run.steps`` from wherever the last run stopped."""
    torch.manual_seed(1)
    vae = WanVAE(CONFIG).to(run.device)
    initialise(vae)
    if run.name in _BEFORE:
        path = run.folder / f"{_BEFORE[run.name]}.pt"
        vae.load_state_dict(torch.load(path, map_location=run.device, weights_only=True)["vae"])
    optimiser = Optimiser(vae, PEAK_RATE[run.name])
    for step in run.loop({"vae": vae, "optimiser": optimiser}):
        torch.manual_seed(step)
        shape = clip_shape(run.name, step / run.steps)
        clips = batch(np.random.default_rng((1, step)), *shape, run.device)
        with narrow(run.device):
            loss, error = loss_of(vae, clips.to(memory_format=torch.channels_last_3d))
        optimiser.step(loss, cosine(step, run.steps))
        if step % 10 == 0:
            run.log(step, loss=loss.item(), l1=error.item())
    return vae


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser()
    parser.add_argument("--stage", choices=SHAPES, default="vae")
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent.parent / "training")
    options = parser.parse_args()
    train(Run(options.folder, options.stage, options.steps, options.device))
