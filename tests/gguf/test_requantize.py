"""Rewritten tensors are the bytes of llama.cpp's own tool."""

from __future__ import annotations

import ctypes
from pathlib import Path

import llama_cpp
import numpy as np
import pytest
from numpy.typing import NDArray

from wanrun.gguf.checkpoint import open_checkpoint
from wanrun.gguf.ggml import MADE, NEED_IMPORTANCE
from wanrun.gguf.requantize import Output, requantize
from wanrun.gguf.types import TYPES
from wanrun.gguf.weights import open_weights
from wanrun.gguf.writer import write_gguf
from wanrun.wan.mixes import fitting

Imatrix = dict[str, NDArray[np.float32]]

KINDS = [kind for kind in MADE if kind not in ("F32", "F16", "BF16")]
#: For these llama.cpp has no other type for rows that do not divide, and gives up.
RIGID = ("Q1_0", "NVFP4")
EVEN = {
    f"enc.blk.0.{name}.weight": shape
    for name, shape in {"attn_q": (256, 256), "ffn_down": (64, 1024)}.items()
}
ODD = {f"enc.blk.0.{name}.weight": shape for name, shape in {"attn_k": (256, 96), "attn_v": (3, 33)}.items()}


def write_source(path: Path, shapes: dict[str, tuple[int, int]]) -> Path:
    """An encoder without a vocabulary, which is what llama.cpp's quantiser asks least of."""
    sizes = {
        "context_length": 512, "embedding_length": 256, "feed_forward_length": 512, "block_count": 1,
        "attention.head_count": 4, "attention.key_length": 64, "attention.value_length": 64,
        "attention.layer_norm_epsilon": 1e-6, "attention.layer_norm_rms_epsilon": 1e-6,
        "attention.relative_buckets_count": 32, "vocab_size": 64,
    }  # fmt: skip
    metadata = {"general.architecture": "t5encoder", "tokenizer.ggml.model": "no_vocab"}
    rng = np.random.default_rng(0)
    tensors = [(name, "F32", shape, rng.standard_normal(shape, np.float32)) for name, shape in shapes.items()]
    write_gguf(path, metadata | {f"t5encoder.{name}": size for name, size in sizes.items()}, tensors)
    return path


def importances(shapes: dict[str, tuple[int, int]]) -> Imatrix:
    rng = np.random.default_rng(1)
    return {name: rng.random(shape[1], np.float32) ** 4 for name, shape in shapes.items()}


def packed(path: Path) -> dict[str, tuple[str, bytes]]:
    with open_weights(path) as weights:
        return {
            name: (weights.type(name), weights.packed(name).data.numpy().tobytes()) for name in weights.names
        }


def by_llama_cpp(
    source: Path, target: Path, kind: str, imatrix: Imatrix | None
) -> dict[str, tuple[str, bytes]]:
    """Types and bytes of what llama-quantize makes with --tensor-type."""
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype, parameters.nthread = llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0, 2
    rules = (llama_cpp.llama_model_tensor_override * 2)()
    rules[0].pattern, rules[0].type = b".*", TYPES[kind].number
    parameters.tt_overrides = rules
    if imatrix is not None:
        entries = (llama_cpp.llama_model_imatrix_data * (len(imatrix) + 1))()
        for entry, (name, values) in zip(entries, imatrix.items(), strict=False):
            entry.name, entry.size = name.encode(), values.size
            entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        parameters.imatrix = entries
    status = llama_cpp.llama_model_quantize(
        str(source).encode(), str(target).encode(), ctypes.byref(parameters)
    )
    assert status == 0
    return packed(target)


def by_us(source: Path, target: Path, kind: str, imatrix: Imatrix | None) -> dict[str, tuple[str, bytes]]:
    with open_checkpoint(source) as checkpoint:
        outputs = [
            Output(name, fitting(kind, info.shape), name, None if imatrix is None else imatrix[name])
            for name, info in checkpoint.header.tensors.items()
        ]
        requantize(checkpoint, target, outputs, {}, lambda *progress: None)
    return packed(target)


@pytest.mark.parametrize("kind", KINDS)
def test_llama_cpp_makes_the_same_bytes(tmp_path: Path, kind: str) -> None:
    shapes = EVEN if kind in RIGID else EVEN | ODD
    source = write_source(tmp_path / "source.gguf", shapes)
    needed = kind in NEED_IMPORTANCE
    for imatrix in (importances(shapes),) if needed else (None, importances(shapes)):
        theirs = by_llama_cpp(source, tmp_path / "theirs.gguf", kind, imatrix)
        assert by_us(source, tmp_path / "ours.gguf", kind, imatrix) == theirs
