"""Turns rendered clips into the transformer's training data: latents and captions, in resumable shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import captions
import numpy as np
import reading
import torch
import world
from checkpoint import Run
from train_vae import CONFIG

from wanrun.wan.autoencoder import WanVAE

SHARD, SHARDS = 256, 32
CAPTIONS = 4  # wordings per clip


def normalise(vae: WanVAE, clips: int = 96) -> WanVAE:
    """Fold the latents' measured statistics into the 1×1×1 convolutions around them.

    Wan's constants then normalise this VAE's latents too: channel by channel, mean 0 and deviation 1.
    """
    rng = np.random.default_rng(2)
    batches = [[world.sample(rng) for _ in range(8)] for _ in range(clips // 8)]
    parts = [vae.encode(world.render(scenes, _device(vae)), {}) for scenes in batches]
    latents = torch.cat(parts).transpose(0, 1).flatten(1)
    mean, deviation = latents.mean(1), latents.std(1)
    channels = len(mean)
    known_mean, known_deviation = vae.mean.flatten(), vae.std.flatten()
    # the stored value known_mean + known_deviation·latent becomes that of (latent - mean) / deviation
    scale = 1 / deviation
    offset = known_mean - scale * (known_mean + known_deviation * mean)
    vae.conv2.bias += vae.conv2.weight.flatten(1) @ (-offset / scale)  # type: ignore[misc]
    vae.conv2.weight /= scale.view(1, -1, 1, 1, 1)
    vae.conv1.weight[:channels] *= scale.view(-1, 1, 1, 1, 1)
    vae.conv1.bias[:channels] = vae.conv1.bias[:channels] * scale + offset  # type: ignore[index]
    return vae


def _device(vae: WanVAE) -> str:
    return str(vae.mean.device)


def load_vae(run: Run) -> WanVAE:
    """The trained VAE with its statistics folded in."""
    vae = WanVAE(CONFIG).to(run.device).requires_grad_(False)
    state = torch.load(run.path, map_location=run.device, weights_only=True)
    vae.load_state_dict(state["vae"])
    return normalise(vae)


def shard(vae: WanVAE, index: int, folder: Path) -> dict[str, Any]:
    """One shard, made once: latents (clips, channels, frames, height, width) float16, captions and labels."""
    path = folder / f"latents-{index:03d}.pt"
    if not path.is_file():
        rng = np.random.default_rng((3, index))
        scenes = [world.sample(rng) for _ in range(SHARD)]
        texts = [[captions.caption(scene, rng) for _ in range(CAPTIONS)] for scene in scenes]
        batches = [world.render(scenes[start : start + 8], _device(vae)) for start in range(0, SHARD, 8)]
        latents = torch.cat([vae.encode(clips, {}).half().cpu() for clips in batches])
        fresh = path.with_suffix(".part")
        labels = [reading.labels(scene) for scene in scenes]
        torch.save({"latents": latents, "captions": texts, "labels": labels}, fresh)
        fresh.replace(path)
    stored: dict[str, Any] = torch.load(path, weights_only=True)
    return stored


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser()
    parser.add_argument("--shards", type=int, default=SHARDS)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent.parent / "training")
    options = parser.parse_args()
    model = load_vae(Run(options.folder, "vae-motion", 0, options.device))
    for number in range(options.shards):
        latents = shard(model, number, options.folder)["latents"]
        print(number, f"mean {latents.float().mean():.3f} deviation {latents.float().std():.3f}", flush=True)  # noqa: T201
