"""Trains wan-toy from nothing, or from where it stopped: VAE, latents, base, both experts, files."""

from __future__ import annotations

import argparse
from pathlib import Path

import reading
import torch
import train_dit
import train_vae
from checkpoint import Run
from export import export

STEPS = {
    "vae": 2900, "vae-motion": 2200, "words": 450, "pictures": 500, "clips": 3400, "high": 5200, "low": 5200,
}  # fmt: skip


def main() -> None:
    """Every stage in order; a finished stage takes no time."""
    here = Path(__file__).parent.parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--folder", type=Path, default=here / "training", help="where the state is kept")
    parser.add_argument("--out", type=Path, default=here, help="where the model's files go")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies every stage's steps")
    options = parser.parse_args()
    runs = {
        name: Run(options.folder, name, max(1, round(steps * options.scale)), options.device)
        for name, steps in STEPS.items()
    }
    for stage in train_vae.SHAPES:
        train_vae.train(runs[stage])
    reading.train(runs["words"])
    for stage in train_dit.STAGES:
        train_dit.train(runs[stage])
    export(options.folder, options.out)


if __name__ == "__main__":
    main()
