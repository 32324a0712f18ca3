"""One transformer forward and one VAE decode against diffusers' on the same random weights."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from tests.wan.conftest import diffusers_transformer, diffusers_vae, store
from wanrun.gguf.weights import open_weights
from wanrun.wan.context import fold_padding
from wanrun.wan.load import load_transformer, load_vae

_ROUNDS = 5


def seconds(ours: Callable[[], object], theirs: Callable[[], object]) -> tuple[float, float]:
    """Median seconds of each, taken in turn so that a busy machine disturbs both alike."""
    times: tuple[list[float], list[float]] = ([], [])
    for round_number in range(_ROUNDS + 1):
        for measured, work in zip(times, (ours, theirs), strict=True):
            start = time.perf_counter()
            work()
            if round_number:  # the first warms up
                measured.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def _report(name: str, ours: float, theirs: float) -> None:
    print(f"{name:<44} wanrun {ours:7.3f} s  diffusers {theirs:7.3f} s  {theirs / ours:.2f}x as fast")  # noqa: T201


def _transformer(folder: Path) -> None:
    theirs = diffusers_transformer(16, 16, 1536, ffn_dim=8960, num_layers=2)
    with open_weights(store(theirs, folder / "model.safetensors", "original")) as weights:
        ours = load_transformer(weights, "cpu", torch.float32)
    latents, context = torch.randn(1, 16, 5, 16, 16), torch.randn(24, 64)
    padded = torch.cat([context, context.new_zeros(512 - len(context), 64)])[None]
    _report(
        "2 blocks of 1.3B, 320 tokens, fp32, CPU",
        *seconds(
            lambda: ours(latents, torch.tensor([[500.0]]), fold_padding([context])),
            lambda: theirs(latents, torch.tensor([500.0]), padded, return_dict=False),
        ),
    )


def _vae(folder: Path) -> None:
    theirs = diffusers_vae("2.1")
    with open_weights(store(theirs, folder / "vae.safetensors", "original")) as weights:
        ours = load_vae(weights, "cpu", torch.float32)
    latents = torch.randn(16, 5, 16, 16)

    def decode() -> list[Tensor]:
        return list(ours.decode_stream(latents))

    _report(
        "VAE 2.1 of width 16, 128x128, 17 frames",
        *seconds(decode, lambda: theirs.decode(latents[None]).sample),
    )


@torch.no_grad()
def main() -> None:
    """Print both ratios."""
    with TemporaryDirectory() as folder:
        _transformer(Path(folder))
        _vae(Path(folder))


if __name__ == "__main__":
    main()
