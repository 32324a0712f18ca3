"""Turns rendered clips into the transformer's training data: latents and captions, in resumable shards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import world
from checkpoint import Run
from torch import Tensor
from train_vae import CONFIG

from wanrun.wan.autoencoder import WanVAE

SHARD, SHARDS = 256, 20
CAPTIONS = 4  # wordings per clip
VOCABULARY = (list(world.COLOURS), list(world.SHAPES), list(world.MOTIONS), list(world.GROUNDS))


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


def shard(vae: WanVAE, index: int, folder: Path) -> tuple[Tensor, list[list[str]]]:
    """One shard's latents (clips, channels, frames, height, width) float16 and its captions, made once."""
    path = folder / f"latents-{index:03d}.pt"
    if not path.is_file():
        rng = np.random.default_rng((3, index))
        scenes = [world.sample(rng) for _ in range(SHARD)]
        captions = [[world.caption(scene, rng) for _ in range(CAPTIONS)] for scene in scenes]
        batches = [world.render(scenes[start : start + 8], _device(vae)) for start in range(0, SHARD, 8)]
        latents = [vae.encode(clips, {}).half().cpu() for clips in batches]
        fresh = path.with_suffix(".part")
        torch.save({"latents": torch.cat(latents), "captions": captions}, fresh)
        fresh.replace(path)
    stored = torch.load(path, weights_only=True)
    return stored["latents"], stored["captions"]


def labels(index: int) -> list[list[int]]:
    """Colour, shape, motion and ground of a shard's clips, as numbers."""
    rng = np.random.default_rng((3, index))
    scenes = [world.sample(rng) for _ in range(SHARD)]
    return [
        [names.index(value) for names, value in zip(VOCABULARY, _words(scene), strict=True)]
        for scene in scenes
    ]


def _words(scene: world.Scene) -> tuple[str, str, str, str]:
    return scene.colour, scene.shape, scene.motion, scene.ground


def corpus(lines: int = 20000) -> list[str]:
    """Captions for the tokeniser, held-out combinations included: every word must have a piece."""
    rng = np.random.default_rng(4)
    return [world.caption(world.sample(rng, held=index % 8 == 0), rng) for index in range(lines)]


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser()
    parser.add_argument("--shards", type=int, default=SHARDS)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent.parent / "training")
    options = parser.parse_args()
    model = load_vae(Run(options.folder, "vae-long", 0, options.device))
    for number in range(options.shards):
        latents, _ = shard(model, number, options.folder)
        print(number, f"mean {latents.float().mean():.3f} deviation {latents.float().std():.3f}", flush=True)  # noqa: T201
