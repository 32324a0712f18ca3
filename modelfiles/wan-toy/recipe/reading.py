"""wan-toy's text encoder: its vocabulary, and how it learns to read before the transformer learns to draw.

From the last row of an encoded caption, linear heads must tell everything that the scene is made of. An
encoder that can do this gives the transformer one row in which every word is bound to its object.
"""

from __future__ import annotations

import math
from pathlib import Path

import captions
import numpy as np
import sentencepiece
import torch
import world
from checkpoint import Run
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import UMT5Config, UMT5EncoderModel

from wanrun.wan.context import Context, fold_padding

TEXT = {"d_model": 256, "d_kv": 64, "num_heads": 4, "d_ff": 512, "num_layers": 2, "vocab_size": 512}
_OBJECT = (["none", *world.COLOURS], ["none", *world.SHAPES])
#: What a caption tells, and the words for it.
FACTS = (
    *_OBJECT, *_OBJECT, ["none", *world.RELATIONS],
    list(world.MOTIONS), list(world.SPEEDS), list(world.GROUNDS),
)  # fmt: skip
BATCH, PEAK_RATE = 192, 1e-3


def labels(scene: world.Scene) -> list[int]:
    """What the scene shows, as a number for each of ``FACTS``."""
    objects = [(thing.colour, thing.shape) for thing in scene.things] + [("none", "none")]
    said = (*objects[0], *objects[1], scene.relation or "none", scene.motion, scene.speed, scene.ground)
    return [names.index(value) for names, value in zip(FACTS, said, strict=True)]


def corpus(lines: int = 20000) -> list[str]:
    """Captions for the tokeniser, held-out combinations included: every word must have a piece."""
    rng = np.random.default_rng(4)
    return [captions.caption(world.sample(rng, held=index % 8 == 0), rng) for index in range(lines)]


def tokenizer(folder: Path) -> sentencepiece.SentencePieceProcessor:
    """A unigram vocabulary of the captions, as UMT5's: pad 0, end 1, unknown 2, bytes as fallback."""
    path = folder / "captions.model"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(corpus()), model_prefix=str(path.with_suffix("")), model_type="unigram",
            vocab_size=TEXT["vocab_size"], byte_fallback=True, hard_vocab_limit=False, pad_id=0, eos_id=1,
            unk_id=2, bos_id=-1, normalization_rule_name="nmt_nfkc", minloglevel=2,
        )  # fmt: skip
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


def text_encoder() -> UMT5EncoderModel:
    """A small UMT5 encoder with random weights.

    Its position biases, all it knows of word order, start large: grown from nothing they learn last of all,
    and until then a caption is a bag of words.
    """
    config = UMT5Config(**TEXT, dropout_rate=0.0, feed_forward_proj="gated-gelu", is_gated_act=True)
    encoder = UMT5EncoderModel(config)
    for name, value in encoder.named_parameters():
        if "relative_attention_bias" in name:
            nn.init.normal_(value, std=2.0)
    return encoder


def heads() -> nn.Linear:
    """One linear layer for all of ``FACTS``."""
    return nn.Linear(TEXT["d_model"], sum(map(len, FACTS)))


def encode(encoder: UMT5EncoderModel, ids: list[list[int]], device: str) -> tuple[Context, Tensor]:
    """Prompts' rows, padding folded; and the last row of each."""
    longest = max(map(len, ids))
    padded = torch.tensor([row + [0] * (longest - len(row)) for row in ids], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids], device=device)
    rows = encoder(input_ids=padded, attention_mask=mask).last_hidden_state
    last = torch.stack([rows[index, len(row) - 1] for index, row in enumerate(ids)])
    return fold_padding([rows[index, : len(row)] for index, row in enumerate(ids)]), last


def reading_loss(heads: nn.Linear, last: Tensor, truth: Tensor, ids: list[list[int]]) -> Tensor:
    """How badly captions' last rows tell the facts, in nats a caption; dropped captions do not count."""
    said = torch.tensor([len(row) > 1 for row in ids], device=last.device)
    parts = heads(last[said]).split([len(names) for names in FACTS], dim=1)
    return torch.stack([F.cross_entropy(part, truth[said, i]) for i, part in enumerate(parts)]).sum()


def train(run: Run) -> None:
    """Train the encoder and the heads alone, on fresh captions at every step."""
    torch.manual_seed(6)
    pieces, encoder, readers = tokenizer(run.folder), text_encoder().to(run.device), heads().to(run.device)
    trained = [*encoder.parameters(), *readers.parameters()]
    optimiser = torch.optim.AdamW(trained, lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    for step in run.loop({"encoder": encoder, "heads": readers, "optimiser": optimiser}):
        rate = min(1.0, (step + 1) / 50) * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * step / run.steps)))
        for group in optimiser.param_groups:
            group["lr"] = PEAK_RATE * rate
        rng = np.random.default_rng((7, step))
        scenes = [world.sample(rng, pairs=0.5) for _ in range(BATCH)]
        ids = [[*pieces.encode(captions.caption(scene, rng)), 1] for scene in scenes]
        truth = torch.tensor([labels(scene) for scene in scenes], device=run.device)
        loss = reading_loss(readers, encode(encoder, ids, run.device)[1], truth, ids)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        if step % 10 == 0:
            run.log(step, loss=loss.item())


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent.parent / "training")
    options = parser.parse_args()
    train(Run(options.folder, "words", options.steps, options.device))
