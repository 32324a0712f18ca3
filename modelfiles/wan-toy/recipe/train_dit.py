"""Trains wan-toy's text encoder and its two experts by flow matching.

Stage "base" trains one transformer on all noise levels together with the encoder. Stage "words" goes on, and
the encoder also learns to say what is what: from its last row, linear heads must tell the object's colour
from the ground's. Stages "high" and "low" start from that and specialise on their side of the boundary, the
encoder fixed, as Wan2.2's experts do.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import sentencepiece
import torch
from checkpoint import Run
from prepare import SHARDS, VOCABULARY, corpus, labels, load_vae, shard
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import UMT5Config, UMT5EncoderModel

from wanrun.wan.config import WanConfig
from wanrun.wan.context import Context, fold_padding
from wanrun.wan.model import WanModel

BOUNDARY, SHIFT, DROPPED, READING_WEIGHT = 0.875, 3.0, 0.12, 0.1
TEXT = {"d_model": 256, "d_kv": 64, "num_heads": 4, "d_ff": 512, "num_layers": 2, "vocab_size": 512}
DIT = WanConfig(width=256, ffn_width=1024, layers=4, in_channels=16, out_channels=16, text_width=256)
STAGES = {"base": (0.0, 1.0), "words": (0.0, 1.0), "high": (BOUNDARY, 1.0), "low": (0.0, BOUNDARY)}


def tokenizer(folder: Path) -> sentencepiece.SentencePieceProcessor:
    """A unigram vocabulary of the captions, as UMT5's: pad 0, end 1, unknown 2, bytes as fallback."""
    path = folder / "captions.model"
    if not path.is_file():
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(corpus()), model_prefix=str(path.with_suffix("")), model_type="unigram",
            vocab_size=TEXT["vocab_size"], byte_fallback=True, hard_vocab_limit=False, pad_id=0, eos_id=1,
            unk_id=2, bos_id=-1, normalization_rule_name="nmt_nfkc", minloglevel=2,
        )  # fmt: skip
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


def text_encoder() -> UMT5EncoderModel:
    """A small UMT5 encoder with random weights."""
    return UMT5EncoderModel(
        UMT5Config(**TEXT, dropout_rate=0.0, feed_forward_proj="gated-gelu", is_gated_act=True)
    )


def encode(encoder: UMT5EncoderModel, ids: list[list[int]], device: str) -> tuple[Context, Tensor]:
    """Prompts' rows, padding folded; and the last row of each."""
    longest = max(map(len, ids))
    padded = torch.tensor([row + [0] * (longest - len(row)) for row in ids], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids], device=device)
    rows = encoder(input_ids=padded, attention_mask=mask).last_hidden_state
    last = torch.stack([rows[index, len(row) - 1] for index, row in enumerate(ids)])
    return fold_padding([rows[index, : len(row)] for index, row in enumerate(ids)]), last


def sigmas(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """Noise levels in [low, high), shifted towards noise; one in each equal part of the range."""
    ends = [value / (SHIFT - (SHIFT - 1) * value) for value in (low, high)]
    u = ends[0] + (ends[1] - ends[0]) * (torch.arange(count) + torch.rand(count, generator=generator)) / count
    return SHIFT * u / (1 + (SHIFT - 1) * u)


class Data:
    """All latents and tokenised captions in memory."""

    def __init__(self, folder: Path, shards: int) -> None:
        pieces = tokenizer(folder)
        vae = load_vae(Run(folder, "vae-long", 0, "cpu"))
        parts = [shard(vae, index, folder) for index in range(shards)]
        self.latents = torch.cat([latents for latents, _ in parts])
        clips = [wordings for _, captions in parts for wordings in captions]
        self.labels = torch.tensor([row for index in range(shards) for row in labels(index)])
        self.ids = [[[*pieces.encode(text), 1] for text in wordings] for wordings in clips]

    def batch(self, step: int, size: int) -> tuple[Tensor, list[list[int]], Tensor]:
        """Clips, one caption each, some dropped to the empty prompt, and what they show."""
        rng = np.random.default_rng((5, step))
        chosen = rng.integers(0, len(self.ids), size)
        ids = [self.ids[clip][rng.integers(0, len(self.ids[clip]))] for clip in chosen]
        ids = [[1] if rng.random() < DROPPED else row for row in ids]
        return self.latents[chosen].float(), ids, self.labels[chosen]


def loss_of(model: WanModel, clean: Tensor, context: Context, sigma: Tensor, noise: Tensor) -> Tensor:
    """Mean square error of the velocity noise - clean."""
    level = sigma.view(-1, 1, 1, 1, 1)
    velocity = model((1 - level) * clean + level * noise, 1000 * sigma[:, None], context)
    return (velocity - (noise - clean)).square().mean()


def reading_loss(heads: nn.Linear, last: Tensor, truth: Tensor, ids: list[list[int]]) -> Tensor:
    """How badly captions' last rows tell colour, shape, motion and ground; dropped captions do not count."""
    said = torch.tensor([len(row) > 1 for row in ids], device=last.device)
    parts = heads(last[said]).split([len(names) for names in VOCABULARY], dim=1)
    return torch.stack([F.cross_entropy(part, truth[said, i]) for i, part in enumerate(parts)]).sum()


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


def train(run: Run, data: Data, size: int, peak: float) -> None:
    """Train one stage from wherever its last run stopped."""
    torch.manual_seed(6)
    encoder, model = text_encoder().to(run.device), WanModel(DIT).to(run.device)
    initialise(model)
    both = nn.ModuleList([model, encoder])
    if run.name != "base":
        before = run.folder / ("base.pt" if run.name == "words" else "words.pt")
        state = torch.load(before, map_location=run.device, weights_only=True)
        both.load_state_dict(state["average"]["module"])
    encoder.requires_grad_(run.name in ("base", "words"))
    heads = nn.Linear(TEXT["d_model"], sum(map(len, VOCABULARY))).to(run.device)
    trained = [value for value in (*both.parameters(), *heads.parameters()) if value.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=peak, betas=(0.9, 0.98), weight_decay=0.01)
    average = Average(both, 0.998)
    for step in run.loop({"both": both, "heads": heads, "average": average, "optimiser": optimiser}):
        warm = min(1.0, (step + 1) / (100 if run.name == "base" else 20))
        for group in optimiser.param_groups:
            group["lr"] = peak * warm * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * step / run.steps)))
        generator = torch.Generator().manual_seed(step)
        clean, ids, truth = data.batch(step + 10**6 * list(STAGES).index(run.name), size)
        noise = torch.randn(clean.shape, generator=generator).to(run.device)
        sigma = sigmas(size, *STAGES[run.name], generator).to(run.device)
        context, last = encode(encoder, ids, run.device)
        loss = loss_of(model, clean.to(run.device), context, sigma, noise)
        reading = reading_loss(heads, last, truth.to(run.device), ids)
        optimiser.zero_grad(set_to_none=True)
        (loss + READING_WEIGHT * reading if run.name == "words" else loss).backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        average.update(both)
        if step % 10 == 0:
            run.log(step, loss=loss.item(), reading=reading.item(), gradient=float(norm))


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser()
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--shards", type=int, default=SHARDS)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent.parent / "training")
    options = parser.parse_args()
    train(
        Run(options.folder, options.stage, options.steps, options.device),
        Data(options.folder, options.shards), options.batch, options.rate,
    )  # fmt: skip
