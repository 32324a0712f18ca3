"""Writes checkpoints of random weights in the shapes of the published ones, as fast as the disk takes them.

Quantised tensors are not quantised: their blocks are random bytes whose scales alone are set, to values that
give weights the size that keeps activations near one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from wanrun.convert.umt5 import UMT5Config
from wanrun.gguf.types import tensor_type
from wanrun.gguf.writer import TensorSource, write_gguf
from wanrun.wan.autoencoder import VAEConfig, WanVAE
from wanrun.wan.config import WanConfig
from wanrun.wan.mixes import choose, find_mix
from wanrun.wan.model import WanModel
from wanrun.wan.tiny import TinyConfig, TinyVAE

Bytes = NDArray[np.uint8]

#: Per type: where in a block its half-precision scales lie, and the weights' spread when the first is 1.
#: The second of Q4_K and Q5_K is of what is taken away from every weight: so much that their mean is zero.
_SCALES = {
    "Q8_0": ((0,), 73.9),
    "Q4_K": ((0, 2), 258.0),
    "Q5_K": ((0, 2), 526.0),
    "Q6_K": ((208,), 1364.0),
}
_MEAN = {"Q4_K": 7.5, "Q5_K": 15.5}
_POOL_BLOCKS = 1 << 14


def random_blocks(kind: str, shape: tuple[int, ...], pool: dict[str, Bytes]) -> Bytes:
    """Packed bytes of a ``kind`` matrix of ``shape``; ``pool`` keeps one piece of each type to repeat."""
    info = tensor_type(kind)
    if kind not in pool:
        block_bytes = info.nbytes(info.block)
        pool[kind] = np.random.default_rng(0).integers(0, 256, (_POOL_BLOCKS, block_bytes), np.uint8)
    places, spread = _SCALES[kind]
    scale = shape[-1] ** -0.5 / spread
    for index, place in enumerate(places):
        value = np.array([scale * (_MEAN[kind] if index else 1)], np.float16)
        pool[kind][:, place : place + 2] = value.view(np.uint8)
    return np.resize(pool[kind], info.nbytes(prod(shape)))


def _plain(kind: str, shape: tuple[int, ...]) -> Bytes:
    values = np.random.default_rng(0).standard_normal(prod(shape), np.float32) * shape[-1] ** -0.5
    packed: Bytes = values.astype(np.float16 if kind == "F16" else np.float32).view(np.uint8)
    return packed


def _source(name: str, kind: str, shape: tuple[int, ...], pool: dict[str, Bytes]) -> TensorSource:
    make: Callable[[], Bytes]
    make = partial(random_blocks, kind, shape, pool) if kind in _SCALES else partial(_plain, kind, shape)
    return name, kind, shape, make


def write_transformer(path: Path, config: WanConfig, mix: str) -> None:
    """A GGUF file of a transformer in one of ``wanrun.wan.mixes``."""
    with torch.device("meta"):
        state = WanModel(config).state_dict()
    chosen, pool = find_mix(mix), dict[str, Bytes]()
    tensors = []
    for name, value in state.items():
        shape = tuple(value.shape)
        small = value.ndim == 1 or name.endswith("modulation")
        tensors.append(_source(name, choose(chosen, name, shape) or ("F32" if small else "F16"), shape, pool))
    metadata = {
        "general.architecture": "wan",
        "general.quantization_version": 2,
        "general.file_type": chosen.file_type,
    }
    write_gguf(path, metadata, tensors)


def write_encoder(path: Path, config: UMT5Config) -> None:
    """A Q4_K GGUF file of a UMT5 encoder without a vocabulary, for programs that bring their own."""
    width, inner, pool = config.d_model, config.heads * config.head_dim, dict[str, Bytes]()
    tensors = [
        _source("token_embd.weight", "Q4_K", (config.vocabulary, width), pool),
        _source("enc.output_norm.weight", "F32", (width,), pool),
    ]
    for layer in range(config.layers):
        shapes = {
            "attn_norm": (width,), "ffn_norm": (width,), "attn_rel_b": (32, config.heads),
            "attn_q": (inner, width), "attn_k": (inner, width), "attn_v": (inner, width),
            "attn_o": (width, inner), "ffn_gate": (config.d_ff, width), "ffn_up": (config.d_ff, width),
            "ffn_down": (width, config.d_ff),
        }  # fmt: skip
        for name, shape in shapes.items():
            kind = "F32" if name.endswith(("norm", "rel_b")) else "Q4_K"
            tensors.append(_source(f"enc.blk.{layer}.{name}.weight", kind, shape, pool))
    write_gguf(path, {"general.architecture": "t5encoder"}, tensors)


def write_vae(path: Path, width: int) -> None:
    """A bf16 safetensors file of a Wan2.1 VAE under its original names."""
    with torch.device("meta"):
        vae = WanVAE(VAEConfig(width, width, 16, 1))
    _save(path, vae)


def write_tiny(path: Path) -> None:
    """A bf16 safetensors file of a taew2_1."""
    with torch.device("meta"):
        tiny = TinyVAE(TinyConfig(16, 1))
    _save(path, tiny)


def _save(path: Path, module: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, value in module.state_dict().items():
        if name.endswith("gamma"):
            state[name] = torch.ones(value.shape, dtype=torch.bfloat16)
        else:
            fan_in = max(1, value[0].numel())
            state[name] = torch.empty(value.shape, dtype=torch.bfloat16)
            state[name].normal_(std=fan_in**-0.5 if value.ndim > 1 else 0.02, generator=generator)
    save_file(state, str(path))
