"""Turns rendered clips into the transformer's training data: latents and captions, in resumable shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import captions
import numpy as np
import torch
import world
from checkpoint import Run
from optimise import narrow
from torch import Tensor
from train_vae import CONFIG

from wanrun.wan.autoencoder import WanVAE

#: How many clips of this many latent frames a shard has, and how many shards there are.
SHARDS = {1: (2048, 6), 5: (256, 140)}
WORDINGS = 4  # captions of each clip
_BATCH = 4


def normalise(vae: WanVAE, clips: int = 64) -> WanVAE:
    """Fold the latents' measured statistics into the 1×1×1 convolutions around them.

    Wan's constants then normalise this VAE's latents too: channel by channel, mean 0 and deviation 1.
    """
    rng = np.random.default_rng(2)
    batches = [[world.sample(rng) for _ in range(8)] for _ in range(clips // 8)]
    parts = [_encode(vae, scenes) for scenes in batches]
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


def _encode(vae: WanVAE, scenes: list[world.Scene]) -> Tensor:
    device = str(vae.mean.device)
    with narrow(device):
        return vae.encode(world.render(scenes, device).to(memory_format=torch.channels_last_3d), {})


def load_vae(run: Run) -> WanVAE:
    """The trained VAE with its statistics folded in."""
    vae = WanVAE(CONFIG).to(run.device).requires_grad_(False)
    state = torch.load(run.path, map_location=run.device, weights_only=True)
    vae.load_state_dict(state["vae"])
    return normalise(vae)


def shard(vae: WanVAE, index: int, frames: int, folder: Path) -> dict[str, Any]:
    """One shard, made once: latents (clips, channels, frames, height, width) float16, and captions.

    One latent frame is the clip's first picture.
    """
    path = folder / f"latents-{frames}-{index:03d}.pt"
    if not path.is_file():
        rng = np.random.default_rng((3, frames, index))
        scenes = [world.sample(rng) for _ in range(SHARDS[frames][0])]
        texts = [[captions.caption(scene, rng) for _ in range(WORDINGS)] for scene in scenes]
        seen = [world.cut(scene, 0, 4 * frames - 3) for scene in scenes]
        batches = [seen[start : start + _BATCH] for start in range(0, len(seen), _BATCH)]
        latents = [_encode(vae, batch).half().cpu() for batch in batches]
        fresh = path.with_suffix(".part")
        torch.save({"latents": torch.cat(latents), "captions": texts}, fresh)
        fresh.replace(path)
    stored: dict[str, Any] = torch.load(path, weights_only=True)
    return stored


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent.parent / "training")
    options = parser.parse_args()
    model = load_vae(Run(options.folder, "vae-motion", 0, options.device))
    for frames, (_, shards) in SHARDS.items():
        for number in range(shards):
            latents = shard(model, number, frames, options.folder)["latents"].float()
            print(frames, number, f"mean {latents.mean():.3f} deviation {latents.std():.3f}", flush=True)  # noqa: T201
