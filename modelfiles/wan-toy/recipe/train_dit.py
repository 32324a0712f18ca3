"""Trains wan-toy's two experts by flow matching, after the text encoder has learned to read.

Stage "pictures" trains one transformer on the clips' first latent frames, which are cheap; "clips" goes on
with whole clips; both on all noise levels, together with the encoder. Stages "high" and "low" start from
that and specialise on their side of the boundary, the encoder fixed, as Wan2.2's experts do.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import torch
from checkpoint import Run
from prepare import SHARDS, load_vae, shard
from reading import encode, heads, reading_loss, text_encoder, tokenizer
from torch import Tensor, nn

from wanrun.wan.config import WanConfig
from wanrun.wan.context import Context
from wanrun.wan.model import WanModel

BOUNDARY, SHIFT, DROPPED, READING_WEIGHT = 0.875, 3.0, 0.12, 0.1
DIT = WanConfig(width=256, ffn_width=1024, layers=4, in_channels=16, out_channels=16, text_width=256)
#: Of each stage: noise levels, clips in a batch, latent frames, peak learning rate, the stage before.
STAGES = {
    "pictures": ((0.0, 1.0), 128, 1, 1e-3, "words"),
    "clips": ((0.0, 1.0), 48, 5, 1e-3, "pictures"),
    "high": ((BOUNDARY, 1.0), 48, 5, 5e-4, "clips"),
    "low": ((0.0, BOUNDARY), 48, 5, 5e-4, "clips"),
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
        self.labels = torch.tensor([row for part in parts for row in part["labels"]])
        texts = [wordings for part in parts for wordings in part["captions"]]
        self.ids = [[[*pieces.encode(text), 1] for text in wordings] for wordings in texts]

    def batch(self, seed: tuple[int, int], size: int) -> tuple[Tensor, list[list[int]], Tensor]:
        """Clips, one caption each, some dropped to the empty prompt, and what they show."""
        rng = np.random.default_rng((5, *seed))
        chosen = rng.integers(0, len(self.ids), size)
        ids = [self.ids[clip][rng.integers(0, len(self.ids[clip]))] for clip in chosen]
        ids = [[1] if rng.random() < DROPPED else row for row in ids]
        return self.latents[chosen].float(), ids, self.labels[chosen]


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


def models(run: Run) -> tuple[WanModel, nn.Module, nn.Linear]:
    """Transformer, encoder and reading heads as the stage before left them."""
    torch.manual_seed(6)
    model, encoder, readers = WanModel(DIT), text_encoder(), heads()
    initialise(model)
    before = STAGES[run.name][-1]
    state = torch.load(run.folder / f"{before}.pt", map_location="cpu", weights_only=True)
    if before == "words":
        encoder.load_state_dict(state["encoder"])
    else:
        nn.ModuleList([model, encoder]).load_state_dict(state["average"]["module"])
    readers.load_state_dict(state["heads"])
    return model.to(run.device), encoder.to(run.device), readers.to(run.device)


def train(run: Run) -> None:
    """Train one stage from wherever its last run stopped."""
    levels, size, frames, peak, _ = STAGES[run.name]
    data = Data(run, frames)
    model, encoder, readers = models(run)
    encoder.requires_grad_(run.name not in ("high", "low"))
    both = nn.ModuleList([model, encoder])
    trained = [value for value in (*both.parameters(), *readers.parameters()) if value.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=peak, betas=(0.9, 0.98), weight_decay=0.01)
    average = Average(both, 0.998)
    for step in run.loop({"both": both, "heads": readers, "average": average, "optimiser": optimiser}):
        rate = min(1.0, (step + 1) / 100) * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * step / run.steps)))
        for group in optimiser.param_groups:
            group["lr"] = peak * rate
        generator = torch.Generator().manual_seed(step)
        clean, ids, truth = data.batch((list(STAGES).index(run.name), step), size)
        noise = torch.randn(clean.shape, generator=generator).to(run.device)
        sigma = sigmas(size, *levels, generator).to(run.device)
        context, last = encode(encoder, ids, run.device)
        loss = loss_of(model, clean.to(run.device), context, sigma, noise)
        reading = reading_loss(readers, last, truth.to(run.device), ids)
        optimiser.zero_grad(set_to_none=True)
        (loss + READING_WEIGHT * reading).backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        average.update(both)
        if step % 10 == 0:
            run.log(step, loss=loss.item(), reading=reading.item(), gradient=float(norm))


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser()
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent.parent / "training")
    options = parser.parse_args()
    train(Run(options.folder, options.stage, options.steps, options.device))
