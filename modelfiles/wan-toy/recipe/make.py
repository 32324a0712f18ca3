"""Trains wan-toy from nothing, or from where it stopped: VAE, latents, base, both experts, files."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import train_dit
import train_vae
from checkpoint import Run
from export import export

STEPS = {"vae": 2400, "vae-long": 500, "base": 1300, "words": 850, "high": 20, "low": 20}


def main() -> None:
    """Every stage in order; a finished stage takes no time."""
    here = Path(__file__).parent.parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--folder", type=Path, default=here / "training", help="where the state is kept")
    parser.add_argument("--out", type=Path, default=here, help="where the model's files go")
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--shards", type=int, default=train_dit.SHARDS)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies every stage's steps")
    options = parser.parse_args()
    runs = {
        name: Run(options.folder, name, max(1, round(steps * options.scale)), options.device)
        for name, steps in STEPS.items()
    }
    for stage in train_vae.SHAPES:
        train_vae.train(runs[stage])
    data = train_dit.Data(options.folder, options.shards)
    for stage, rate in (("base", 1e-3), ("words", 1e-3), ("high", 1e-4), ("low", 1e-4)):
        train_dit.train(runs[stage], data, options.batch, rate)
    export(options.folder, options.out)


if __name__ == "__main__":
    main()
