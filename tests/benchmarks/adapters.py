"""What a LoRA of rank 64 adds to a forward, in the shape of Wan2.2 A14B's blocks: a ratio for each way.

Both forwards are taken in turn on one thread, and of each the fastest counts, in seconds of the processor: so
little depends on what else the machine does.
The LoRA has Lightning's key set: every attention and feed-forward matrix of every block, with alphas.

    python -m tests.benchmarks.adapters
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.wan.loras import BLOCK, blocks
from wanrun.gguf.ggml import quantize
from wanrun.gguf.policy import Policy
from wanrun.gguf.weights import open_weights
from wanrun.gguf.writer import TensorSource, write_gguf
from wanrun.wan.config import WanConfig
from wanrun.wan.context import fold_padding
from wanrun.wan.load import fuse_gelu, load_transformer
from wanrun.wan.lora import adapt, transformer_shapes
from wanrun.wan.model import WanModel

#: Width, feed-forward width and text of A14B; three blocks, of which the middle one may be in 8 bits.
_CONFIG = WanConfig(5120, 13824, 3, 16, 16, 4096)
_RANK, _ROUNDS = 64, 3
#: (channels, frames, height, width): 768 tokens.
_LATENTS = (16, 3, 32, 32)
_WAYS: Mapping[str, Callable[[], Policy]] = {
    "bf16, resident": lambda: Policy(1 << 40),
    "bf16, unpacked at each use": Policy,
    "int8": lambda: Policy(int8=True),
}


def write_model(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """Random weights, the blocks' matrices in Q8_0."""
    random = np.random.default_rng(1)

    def tensors() -> Iterator[TensorSource]:
        for name, shape in shapes.items():
            packed = name.startswith("blocks.") and len(shape) == 2
            kind = "Q8_0" if packed else "F32"
            values = 0.02 * random.standard_normal(shape, np.float32)
            yield name, kind, shape, quantize(kind, values) if packed else values

    write_gguf(path, {"general.architecture": "wan"}, list(tensors()))


def write_lora(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """Random matrices under Lightning's keys."""
    state: dict[str, Tensor] = {}
    for layer in blocks(BLOCK, _CONFIG.layers):
        out, inputs = shapes[f"{layer}.weight"]
        state[f"diffusion_model.{layer}.lora_down.weight"] = 0.01 * torch.randn(_RANK, inputs)
        state[f"diffusion_model.{layer}.lora_up.weight"] = 0.01 * torch.randn(out, _RANK)
        state[f"diffusion_model.{layer}.alpha"] = torch.tensor(float(_RANK))
    save_file(state, str(path))


def load(folder: Path, way: str, adapted: bool) -> WanModel:
    """The model as the backend loads it."""
    with open_weights(folder / "model.gguf") as weights:
        model = load_transformer(weights, "cpu", torch.bfloat16, _WAYS[way]())
    if adapted:
        with open_weights(folder / "lora.safetensors") as lora:
            adapt(model, [(lora, 1.0)])
    fuse_gelu(model)
    return model


def seconds(model: WanModel) -> float:
    """One forward."""
    latents, context = torch.randn(1, *_LATENTS), torch.randn(40, 4096)
    folded = fold_padding([context])
    started = time.process_time()
    model(latents, torch.tensor([[900.0]]), folded)
    return time.process_time() - started


@torch.inference_mode()
def main(*ways: str) -> None:
    """Print a line for each way: seconds without, with, and their ratio."""
    torch.set_num_threads(1)
    shapes = transformer_shapes(_CONFIG)
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder / "model.gguf", shapes)
        write_lora(folder / "lora.safetensors", shapes)
        for way in ways or _WAYS:
            models = [load(folder, way, adapted) for adapted in (False, True)]
            times = [[seconds(model) for model in models] for _ in range(_ROUNDS + 1)][1:]
            plain, adapted = (min(column) for column in zip(*times, strict=True))
            print(f"{way:<28} {plain:6.2f} s, with the LoRA {adapted:6.2f} s: {adapted / plain:.3f}")  # noqa: T201
            del models


if __name__ == "__main__":
    main(*sys.argv[1:])
