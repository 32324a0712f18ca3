"""Writes the trained parts as the files that wan-toy ships, in the formats that the big models come in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from checkpoint import Run
from prepare import load_vae
from reading import TEXT, tokenizer
from safetensors.torch import save_file
from torch import Tensor, nn
from train_dit import DIT, fixed_encoder

from wanrun.convert.umt5 import UMT5Config, convert_umt5
from wanrun.gguf.ggml import quantize
from wanrun.gguf.writer import write_gguf
from wanrun.wan.model import WanModel

_FILE_TYPES = {"F16": 1, "Q8_0": 7}


def averaged(folder: Path, stage: str) -> WanModel:
    """The averaged weights of a stage's transformer."""
    model = WanModel(DIT)
    state = torch.load(folder / f"{stage}.pt", map_location="cpu", weights_only=True)
    model.load_state_dict(state["average"]["module"])
    return model


def stored_type(name: str, value: Tensor, kind: str) -> str:
    """What city96's converter stores: the blocks' matrices quantised, small and 5-D tensors F32."""
    if value.ndim != 2 or "modulation" in name or name.startswith("patch_embedding"):
        return "F32"
    return kind if name.startswith("blocks.") else "F16"


def write_expert(model: nn.Module, path: Path, kind: str) -> None:
    """One transformer as GGUF under its original names."""
    tensors = []
    for name, value in model.state_dict().items():
        stored = stored_type(name, value, kind)
        rows = np.ascontiguousarray(value.float().numpy())
        data = rows.tobytes() if stored == "F32" else quantize(stored, rows)
        tensors.append((name, stored, tuple(value.shape), data))
    metadata = {
        "general.architecture": "wan",
        "general.name": path.stem,
        "general.license": "apache-2.0",
        "general.quantization_version": 2,
        "general.file_type": _FILE_TYPES[kind],
    }
    write_gguf(path, metadata, tensors)


def export(folder: Path, out: Path) -> None:
    """All files of the bundle."""
    vae = load_vae(Run(folder, "vae-motion", 0, "cpu"))
    state = {name: value.half().contiguous() for name, value in vae.state_dict().items()}
    save_file(state, str(out / "wan-toy-vae.safetensors"))
    for stage in ("high", "low"):
        write_expert(averaged(folder, stage), out / f"wan-toy-{stage}-noise-Q8_0.gguf", "Q8_0")
    encoder = fixed_encoder(Run(folder, "words", 0, "cpu"))
    config = UMT5Config(
        vocabulary=encoder.shared.weight.shape[0], d_model=TEXT["d_model"], d_ff=TEXT["d_ff"],
        layers=TEXT["num_layers"], heads=TEXT["num_heads"], head_dim=TEXT["d_kv"],
    )  # fmt: skip
    pieces = tokenizer(folder).serialized_model_proto()
    convert_umt5(encoder.state_dict(), config, pieces, out / "wan-toy-umt5-F16.gguf", "F16")


if __name__ == "__main__":
    here = Path(__file__).parent.parent
    export(here / "training", here)
