"""Converts a UMT5 encoder to the ``t5encoder`` GGUF that llama.cpp loads.

Names and keys are those of llama.cpp's ``gguf-py/gguf/constants.py`` and ``src/models/t5encoder.cpp``.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from gguf import GGMLQuantizationType
from gguf.quants import quantize
from torch import Tensor

from wanrun.convert.locate import find_tokenizer
from wanrun.convert.vocabulary import Vocabulary, read_vocabulary
from wanrun.errors import FormatError, InvalidRequest
from wanrun.gguf.checkpoint import Checkpoint
from wanrun.gguf.layout import NumberArray
from wanrun.gguf.requantize import Output
from wanrun.gguf.writer import TensorSource, write_gguf
from wanrun.wan.detect import Identity

EncoderType = Literal["F32", "F16", "BF16", "Q8_0"]

#: What a Wan model reads; the encoder itself has no limit, its positions are relative.
CONTEXT_TOKENS = 512

_FILE_TYPES = {"F32": 0, "F16": 1, "Q8_0": 7, "BF16": 32}
_Q8_0_BLOCK = 32
_MAX_TOKENIZER_BYTES = 64 << 20
_EMBEDDINGS = ("shared.weight", "encoder.embed_tokens.weight")
#: GGUF name within a layer -> name within a layer of transformers' UMT5EncoderModel.
_LAYER = {
    "attn_norm": "layer.0.layer_norm",
    "attn_q": "layer.0.SelfAttention.q",
    "attn_k": "layer.0.SelfAttention.k",
    "attn_v": "layer.0.SelfAttention.v",
    "attn_o": "layer.0.SelfAttention.o",
    "attn_rel_b": "layer.0.SelfAttention.relative_attention_bias",
    "ffn_norm": "layer.1.layer_norm",
    "ffn_gate": "layer.1.DenseReluDense.wi_0",
    "ffn_up": "layer.1.DenseReluDense.wi_1",
    "ffn_down": "layer.1.DenseReluDense.wo",
}
#: The same of Wan's own checkpoints (Wan2.2 wan/modules/t5.py).
_ORIGINAL_LAYER = {
    "attn_norm": "norm1",
    "attn_q": "attn.q",
    "attn_k": "attn.k",
    "attn_v": "attn.v",
    "attn_o": "attn.o",
    "attn_rel_b": "pos_embedding.embedding",
    "ffn_norm": "norm2",
    "ffn_gate": "ffn.gate.0",
    "ffn_up": "ffn.fc1",
    "ffn_down": "ffn.fc2",
}
#: The tensor in which ComfyUI's repackaged encoders carry their sentencepiece model.
_CARRIED = "spiece_model"


@dataclass(frozen=True, slots=True)
class UMT5Config:
    """The sizes of an encoder; defaults are what every published UMT5 has.

    llama.cpp fixes the rest: gated GELU (tanh), no biases, and relative positions up to 128, beyond which all
    share a bucket. ``vocabulary`` is the number of rows of the embedding.
    """

    vocabulary: int
    d_model: int
    d_ff: int
    layers: int
    heads: int
    head_dim: int = 64
    relative_buckets: int = 32
    eps: float = 1e-6


def convert_umt5(
    state_dict: Mapping[str, Tensor],
    config: UMT5Config,
    spm_model: bytes,
    out: Path,
    type: EncoderType = "F16",
) -> None:
    """Write the encoder half of ``state_dict`` (names of transformers' UMT5) and its tokeniser to ``out``.

    ``spm_model`` is the serialised sentencepiece unigram model. ``type`` is that of the matrices; norms and
    position biases stay F32, and matrices whose rows are no multiple of 32 are F16 in a Q8_0 file. Raises
    FormatError for tensors that are missing or of another shape than ``config`` says, or for a broken
    vocabulary; InvalidRequest for a vocabulary that does not fit.
    """
    if type not in _FILE_TYPES:
        raise InvalidRequest(f"a text encoder is converted to {', '.join(_FILE_TYPES)}, not {type!r}")
    vocabulary = read_vocabulary(spm_model).padded(config.vocabulary)
    metadata = {**_model_metadata(config, type), **_vocabulary_metadata(vocabulary)}
    write_gguf(out, metadata, list(_tensors(state_dict, config, type)))


def _model_metadata(config: UMT5Config, type: str) -> dict[str, object]:
    sizes = {
        "context_length": CONTEXT_TOKENS,
        "embedding_length": config.d_model,
        "feed_forward_length": config.d_ff,
        "block_count": config.layers,
        "attention.head_count": config.heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "attention.layer_norm_epsilon": config.eps,
        "attention.layer_norm_rms_epsilon": config.eps,
        "attention.relative_buckets_count": config.relative_buckets,
    }
    return {
        "general.architecture": "t5encoder",
        "general.type": "model",
        "general.quantization_version": 2,
        "general.file_type": _FILE_TYPES[type],
        **{f"t5encoder.{key}": value for key, value in sizes.items()},
    }


def _vocabulary_metadata(vocabulary: Vocabulary) -> dict[str, object]:
    values: dict[str, object] = {
        "model": "t5",
        "pre": "default",
        "tokens": vocabulary.tokens,
        "scores": vocabulary.scores,
        "token_type": vocabulary.types,
        "add_space_prefix": vocabulary.add_dummy_prefix,
        "remove_extra_whitespaces": vocabulary.remove_extra_whitespaces,
        "eos_token_id": vocabulary.eos_id,
        "unknown_token_id": vocabulary.unknown_id,
        "add_bos_token": False,
        "add_eos_token": True,
    }
    if vocabulary.padding_id >= 0:
        values["padding_token_id"] = vocabulary.padding_id
    if vocabulary.charsmap:
        values["precompiled_charsmap"] = NumberArray("UINT8", vocabulary.charsmap)
    return {f"tokenizer.ggml.{key}": value for key, value in values.items()}


def encoder_outputs(
    checkpoint: Checkpoint, identity: Identity, type: str, tokenizer: Path | None, place: Path
) -> tuple[list[Output], dict[str, object]]:
    """The tensors and metadata of the GGUF of the encoder in ``checkpoint``, as ``convert_umt5`` writes them.

    The sentencepiece model is ``tokenizer``, or what the checkpoint carries, or what lies with it at
    ``place``. Raises as ``convert_umt5``, and InvalidRequest for a T5 that is no UMT5, a GGUF, or a missing
    tokeniser.
    """
    if identity.problem is not None or identity.dialect == "llama.cpp":
        problem = identity.problem or "it is in llama.cpp's GGUF already"
        raise InvalidRequest(f"{checkpoint.header.path} cannot be converted: {problem}")
    vocabulary = read_vocabulary(_spm_model(checkpoint, tokenizer, place))
    shapes = {name: info.shape for name, info in checkpoint.header.tensors.items()}
    original = identity.dialect == "original"
    names = _names(shapes, identity.layers or 0, original)
    config = _config(shapes, names, identity)
    metadata = _model_metadata(config, type) | _vocabulary_metadata(vocabulary.padded(config.vocabulary))
    outputs = []
    for ours, theirs in names.items():
        shape = _checked_shape(ours, theirs, shapes.get(theirs), config)
        outputs.append(Output(f"{ours}.weight", _storage(ours, shape, type), theirs))
    return outputs, metadata


def _spm_model(checkpoint: Checkpoint, tokenizer: Path | None, place: Path) -> bytes:
    carried = _CARRIED in checkpoint.header.tensors and checkpoint.header.tensors[_CARRIED].type == "U8"
    if tokenizer is None and carried:
        return checkpoint.packed(_CARRIED).data.numpy().tobytes()
    path = tokenizer or find_tokenizer(place)
    if path is None:
        raise InvalidRequest(
            "the tokeniser is missing: give the model's spiece.model with --tokenizer; google/umt5-xxl has it"
        )
    if not path.is_file() or path.stat().st_size > _MAX_TOKENIZER_BYTES:
        raise InvalidRequest(f"{path} is no sentencepiece model: give the model's spiece.model")
    return path.read_bytes()


def _config(
    shapes: Mapping[str, tuple[int, ...]], names: Mapping[str, str], identity: Identity
) -> UMT5Config:
    """The sizes, as far as shapes say them; what does not fit is found when each is checked."""
    embedding, query, biases, gate = (
        (*shapes.get(names[name], ()), 0, 0)[:2]
        for name in ("token_embd", "enc.blk.0.attn_q", "enc.blk.0.attn_rel_b", "enc.blk.0.ffn_gate")
    )
    return UMT5Config(
        vocabulary=embedding[0],
        d_model=embedding[1],
        d_ff=gate[0],
        layers=identity.layers or 0,
        heads=biases[1],
        head_dim=query[0] // max(biases[1], 1),
        relative_buckets=biases[0],
    )


def _tensors(
    state_dict: Mapping[str, Tensor], config: UMT5Config, type: EncoderType
) -> Iterator[TensorSource]:
    for ours, theirs in _names(state_dict, config.layers, original=False).items():
        tensor = state_dict.get(theirs)
        shape = _checked_shape(ours, theirs, None if tensor is None else tuple(tensor.shape), config)
        assert tensor is not None
        kind = _storage(ours, shape, type)
        yield f"{ours}.weight", kind, shape, partial(_pack, tensor, kind)


def _names(known: Container[str], layers: int, original: bool) -> dict[str, str]:
    """GGUF name -> stored name."""
    if original:
        names = {"token_embd": "token_embedding.weight", "enc.output_norm": "norm.weight"}
    else:
        embedding = next((name for name in _EMBEDDINGS if name in known), _EMBEDDINGS[0])
        names = {"token_embd": embedding, "enc.output_norm": "encoder.final_layer_norm.weight"}
    block, layer_names = ("blocks", _ORIGINAL_LAYER) if original else ("encoder.block", _LAYER)
    for layer in range(layers):
        for ours, theirs in layer_names.items():
            names[f"enc.blk.{layer}.{ours}"] = f"{block}.{layer}.{theirs}.weight"
    return names


def _checked_shape(
    ours: str, theirs: str, found: tuple[int, ...] | None, config: UMT5Config
) -> tuple[int, ...]:
    shape = _shape(ours.rsplit(".", 1)[-1], config)
    if found != shape:
        problem = "missing" if found is None else f"of shape {found}"
        raise FormatError(f"the encoder's {theirs} is {problem}, where {shape} is needed")
    return shape


def _shape(name: str, config: UMT5Config) -> tuple[int, ...]:
    inner = config.heads * config.head_dim
    if name.endswith("norm"):
        return (config.d_model,)
    return {
        "token_embd": (config.vocabulary, config.d_model),
        "attn_o": (config.d_model, inner),
        "attn_rel_b": (config.relative_buckets, config.heads),
        "ffn_gate": (config.d_ff, config.d_model),
        "ffn_up": (config.d_ff, config.d_model),
        "ffn_down": (config.d_model, config.d_ff),
    }.get(name, (inner, config.d_model))


def _storage(name: str, shape: tuple[int, ...], type: str) -> str:
    if len(shape) < 2 or name.endswith("attn_rel_b"):
        return "F32"
    return "F16" if type == "Q8_0" and shape[-1] % _Q8_0_BLOCK else type


def _pack(tensor: Tensor, kind: str) -> bytes:
    values = tensor.detach().to("cpu", torch.float32).contiguous()
    if kind == "F16":
        return values.half().numpy().tobytes()
    if kind == "BF16":
        return values.bfloat16().view(torch.uint8).numpy().tobytes()
    if kind == "Q8_0":
        packed: bytes = quantize(values.numpy(), GGMLQuantizationType.Q8_0).tobytes()
        return packed
    return values.numpy().tobytes()
