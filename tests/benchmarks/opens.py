"""Has stable-diffusion.cpp make a video with files that we converted and quantised.

``python -m tests.benchmarks.opens [--type Q4_0]``: a Wan of random weights in the shape of the 1.3B, the
least that stable-diffusion.cpp takes, goes from diffusers' shards to GGUF, is quantised, and makes five
frames with a VAE that was converted too. Wants 12 GB of disk. Fails when there are no frames.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch

from tests.benchmarks.checkpoints import write_encoder, write_vae
from tests.benchmarks.children import run_child
from tests.benchmarks.peers import FULL
from tests.convert.published import as_diffusers, save_sharded
from wanrun.convert.network import Wanted, convert
from wanrun.wan.model import WanModel
from wanrun.wan.requantize import quantize_transformer


def quiet(phase: str, done: int, total: int) -> None:
    pass


def _values(shape: torch.Size) -> torch.Tensor:
    std = shape[1:].numel() ** -0.5 if len(shape) > 1 else 0.02
    return torch.empty(shape, dtype=torch.bfloat16).normal_(std=std)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--type", default="Q4_0")
    parser.add_argument("--folder", help="where 12 GB are free")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        folder = Path(name)
        with torch.device("meta"):
            shapes = {key: value.shape for key, value in WanModel(FULL.transformer).state_dict().items()}
        state = {key: _values(shape) for key, shape in shapes.items()}
        save_sharded(as_diffusers(state), folder / "transformer", 2)
        convert(folder, folder / "wan.gguf", quiet, Wanted(role="diffusion", license="apache-2.0"))
        quantize_transformer(folder / "wan.gguf", folder / "small.gguf", asked.type, quiet)
        write_vae(folder / "vae.safetensors", FULL.vae_width)
        convert(folder / "vae.safetensors", folder / "wan-vae.safetensors", quiet)
        write_encoder(folder / "encoder.gguf", FULL.encoder)
        for file in ("wan.gguf", "small.gguf"):
            task = {
                "contender": "stable-diffusion.cpp", "measure": "video", "device": "cpu", "steps": 2,
                "threads": 2, "size": (64, 64, 5), "transformer": str(folder / file),
                "vae": str(folder / "wan-vae.safetensors"), "encoder": str(folder / "encoder.gguf"),
            }  # fmt: skip
            outcome = run_child("tests.benchmarks.contender", task)
            said = outcome.problem or f"{outcome.told['frames']} frames"
            print(f"stable-diffusion.cpp with {file}: {said}")  # noqa: T201
            if outcome.problem or not outcome.told["frames"]:
                return 1
    return 0


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    sys.exit(main(sys.argv[1:]))
