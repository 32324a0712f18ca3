"""Trains wan-toy's two experts by flow matching; the text encoder is fixed, as Wan's is.

Stage "pictures" trains one transformer on the clips' first latent frames, which are cheap; "clips" goes on
with whole clips; both on all noise levels. Stages "high" and "low" start from that and specialise on their
side of the boundary, as Wan2.2's experts do.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from checkpoint import Run
from optimise import Optimiser, cosine, narrow
from prepare import SHARDS, load_vae, shard
from reading import encode, text_encoder, tokenizer
from torch import Tensor, nn

from wanrun.wan.config import WanConfig
from wanrun.wan.context import Context
from wanrun.wan.model import WanModel

BOUNDARY, SHIFT, DROPPED = 0.875, 3.0, 0.12
DIT = WanConfig(width=256, ffn_width=1024, layers=4, in_channels=16, out_channels=16, text_width=256)
#: Of each stage: noise levels, clips in a batch, latent frames, peak learning rate, the stage before it.
STAGES = {
    "pictures": ((0.0, 1.0), 160, 1, 2e-3, ""),
    "clips": ((0.0, 1.0), 64, 5, 2e-3, "pictures"),
    "high": ((BOUNDARY, 1.0), 64, 5, 2e-3, "clips"),
    "low": ((0.0, BOUNDARY), 64, 5, 2e-3, "clips"),
}


def sigmas(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """Noise levels in [low, high), shifted towards noise; one in each equal part of the range."""
    ends = [value / (SHIFT - (SHIFT - 1) * value) for value in (low, high)]
    u = ends[0] + (ends[1] - ends[0]) * (torch.arange(count) + torch.rand(count, generator=generator)) / count
    return SHIFT * u / (1 + (SHIFT - 1) * u)


class Data:
    """All latents of so many frames, and tokenised captions, in memory."""

    def __init__(self, run: Run, frames: int) -> None:
        pieces = tokenizer(run.folder)
        vae = load_vae(Run(run.folder, "vae-motion", 0, run.device))
        parts = [shard(vae, index, frames, run.folder) for index in range(SHARDS[frames][1])]
        self.latents = torch.cat([part["latents"] for part in parts])
        texts = [wordings for part in parts for wordings in part["captions"]]
        self.ids = [[[*pieces.encode(text), 1] for text in wordings] for wordings in texts]

    def batch(self, seed: tuple[int, int], size: int) -> tuple[Tensor, list[list[int]]]:
        """Clips, and one caption each, some dropped to the empty prompt."""
        rng = np.random.default_rng((5, *seed))
        chosen = rng.integers(0, len(self.ids), size)
        ids = [self.ids[clip][rng.integers(0, len(self.ids[clip]))] for clip in chosen]
        ids = [[1] if rng.random() < DROPPED else row for row in ids]
        return self.latents[chosen].float(), ids


def loss_of(model: WanModel, clean: Tensor, context: Context, sigma: Tensor, noise: Tensor) -> Tensor:
    """Mean square error of the velocity noise - clean."""
    level = sigma.view(-1, 1, 1, 1, 1)
    velocity = model((1 - level) * clean + level * noise, 1000 * sigma[:, None], context)
    return (velocity - (noise - clean)).square().mean()


class Average:
    """Exponential moving average of weights, slow to begin with."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module, self.decay, self.count = copy.deepcopy(module).requires_grad_(False), decay, 0

    def update(self, module: nn.Module) -> None:
        self.count += 1
        keep = min(self.decay, (1 + self.count) / (10 + self.count))
        for mine, theirs in zip(self.module.parameters(), module.parameters(), strict=True):
            mine.lerp_(theirs, 1 - keep)

    def state_dict(self) -> dict[str, object]:
        return {"module": self.module.state_dict(), "count": self.count}

    def load_state_dict(self, state: dict[str, object]) -> None:
        self.module.load_state_dict(state["module"])  # type: ignore[arg-type]
        self.count = int(state["count"])  # type: ignore[call-overload]


def initialise(model: WanModel) -> None:
    """Small weights where the residual is written, as in DiT: blocks start as the identity."""
    for block in model.blocks:
        nn.init.zeros_(block.cross_attn.o.weight)  # type: ignore[union-attr, arg-type]
    nn.init.zeros_(model.time_projection[1].weight)  # type: ignore[arg-type]
    nn.init.zeros_(model.head.head.weight)


def fixed_encoder(run: Run) -> nn.Module:
    """The text encoder that stage "words" trained."""
    encoder = text_encoder()
    state = torch.load(run.folder / "words.pt", map_location="cpu", weights_only=True)
    encoder.load_state_dict(state["encoder"])
    return encoder.requires_grad_(False).to(run.device)


def transformer(run: Run) -> WanModel:
    """The transformer as the stage before left it, or a new one."""
    torch.manual_seed(6)
    model, before = WanModel(DIT), STAGES[run.name][-1]
    initialise(model)
    if before:
        state = torch.load(run.folder / f"{before}.pt", map_location="cpu", weights_only=True)
        model.load_state_dict(state["average"]["module"])
    return model.to(run.device)


def train(run: Run) -> None:
    """Train one stage from wherever its last run stopped."""
    levels, size, frames, peak, _ = STAGES[run.name]
    data, encoder, model = Data(run, frames), fixed_encoder(run), transformer(run)
    optimiser, average = Optimiser(model, peak), Average(model, 0.998)
    for step in run.loop({"model": model, "average": average, "optimiser": optimiser}):
        generator = torch.Generator().manual_seed(step)
        clean, ids = data.batch((list(STAGES).index(run.name), step), size)
        noise = torch.randn(clean.shape, generator=generator).to(run.device)
        sigma = sigmas(size, *levels, generator).to(run.device)
        with narrow(run.device):
            context, _ = encode(encoder, ids, run.device)
            loss = loss_of(model, clean.to(run.device), context, sigma, noise)
        norm = optimiser.step(loss, cosine(step, run.steps))
        average.update(model)
        if step % 10 == 0:
            run.log(step, loss=loss.item(), gradient=norm)


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser()
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent.parent / "training")
    options = parser.parse_args()
    train(Run(options.folder, options.stage, options.steps, options.device))
