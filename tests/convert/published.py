"""Writes small checkpoints as the makers of models publish them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from wanrun.wan.config import WanConfig
from wanrun.wan.model import WanModel
from wanrun.wan.names import diffusers_name

CONFIG = WanConfig(width=128, ffn_width=320, layers=2, in_channels=16, out_channels=16, text_width=64)

State = dict[str, Tensor]


def transformer(dtype: torch.dtype = torch.float32) -> State:
    """Random tensors under the original names."""
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in WanModel(CONFIG).state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}


def as_diffusers(state: State) -> State:
    return {diffusers_name(name): value for name, value in state.items()}


def as_comfy(state: State) -> State:
    return {f"model.diffusion_model.{name}": value for name, value in state.items()}


def as_scaled_fp8(state: State) -> tuple[State, State]:
    """What ComfyUI publishes, and what it stands for."""
    stored: State = {"scaled_fp8": torch.empty(0, dtype=torch.float8_e4m3fn)}
    meant: State = {}
    for name, value in state.items():
        if value.ndim != 2 or not name.startswith("blocks.") or not name.endswith(".weight"):
            stored[name] = meant[name] = value
            continue
        scale = (value.abs().max() / 448).float()
        stored[name] = (value / scale).to(torch.float8_e4m3fn)
        stored[name.replace(".weight", ".scale_weight")] = scale
        stored[name.replace(".weight", ".scale_input")] = torch.tensor(1.0)
        meant[name] = stored[name].float() * scale
    return stored, meant


def save_sharded(state: State, folder: Path, shards: int = 3) -> Path:
    """Shards with an index, as transformers and diffusers write them; returns the index."""
    folder.mkdir(parents=True, exist_ok=True)
    names, homes = list(state), dict[str, str]()
    for number in range(shards):
        file = f"diffusion_pytorch_model-{number + 1:05}-of-{shards:05}.safetensors"
        part = {name: state[name].contiguous() for name in names[number::shards]}
        save_file(part, folder / file, {"format": "pt"})
        homes |= dict.fromkeys(part, file)
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 0}, "weight_map": homes}))
    return index
