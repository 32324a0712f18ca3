"""Makes real but very small UMT5 encoders and vocabularies, with the libraries that define them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from sentencepiece import SentencePieceTrainer
from torch import Tensor
from transformers import UMT5Config as ReferenceConfig
from transformers import UMT5EncoderModel

from tests.text.corpus import sentences
from wanrun.convert.umt5 import UMT5Config

CONFIG = UMT5Config(vocabulary=600, d_model=128, d_ff=256, layers=3, heads=2)

#: What umt5-xxl has; no normalisation at all, with user-defined pieces; and the other extremes.
TRAINERS: dict[str, dict[str, Any]] = {
    "nmt_nfkc": {"normalization_rule_name": "nmt_nfkc", "byte_fallback": True},
    "identity": {
        "normalization_rule_name": "identity",
        "byte_fallback": True,
        "user_defined_symbols": ["<extra_id_0>", "الكرة"],
    },
    "bare": {
        "normalization_rule_name": "nmt_nfkc_cf",
        "add_dummy_prefix": False,
        "remove_extra_whitespaces": False,
    },
}


def train_vocabulary(name: str) -> bytes:
    """A serialised sentencepiece model; 2 % of the training text's characters stay unknown to it."""
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(sentences(3000)),
        model_writer=model,
        model_type="unigram",
        vocab_size=500,
        character_coverage=0.98,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
        **TRAINERS[name],
    )
    return model.getvalue()


def reference_encoder() -> Any:
    """A transformers UMT5EncoderModel with random weights whose position biases matter."""
    torch.manual_seed(0)
    model = UMT5EncoderModel(
        ReferenceConfig(
            vocab_size=CONFIG.vocabulary,
            d_model=CONFIG.d_model,
            d_kv=CONFIG.head_dim,
            d_ff=CONFIG.d_ff,
            num_layers=CONFIG.layers,
            num_heads=CONFIG.heads,
        )
    )
    for block in model.encoder.block:
        torch.nn.init.normal_(block.layer[0].SelfAttention.relative_attention_bias.weight)
        torch.nn.init.uniform_(block.layer[0].layer_norm.weight, 0.5, 1.5)
        torch.nn.init.uniform_(block.layer[1].layer_norm.weight, 0.5, 1.5)
    torch.nn.init.uniform_(model.encoder.final_layer_norm.weight, 0.5, 1.5)
    return model.eval()


@torch.no_grad()
def reference_rows(model: Any, ids: list[int]) -> Tensor:
    """(tokens, width) of the reference."""
    rows: Tensor = model(torch.tensor([ids])).last_hidden_state[0]
    return rows


def relative_error(rows: Tensor, expected: Tensor) -> float:
    """The largest absolute error over the largest absolute value."""
    return float((rows - expected).abs().max() / expected.abs().max())


def edited(source: Path, out: Path, **metadata: object) -> Path:
    """A copy of the GGUF ``source`` with other metadata; dots of a key are written as double underscores."""
    from wanrun.gguf.reader import read_gguf
    from wanrun.gguf.writer import write_gguf

    header = read_gguf(source)
    data = source.read_bytes()
    tensors = [
        (t.name, t.type, t.shape, data[t.offset : t.offset + t.nbytes]) for t in header.tensors.values()
    ]
    changed = {key.replace("__", "."): value for key, value in metadata.items()}
    write_gguf(out, {**header.metadata, **changed}, tensors)
    return out
