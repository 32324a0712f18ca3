"""LoRA files of every dialect with the key sets of real ones, and what merging them must give."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from wanrun.wan.names import canonical

State = dict[str, Tensor]

ATTENTION = [f"{kind}_attn.{part}" for kind in ("self", "cross") for part in "qkvo"]
BLOCK = [*ATTENTION, "ffn.0", "ffn.2"]
OUTSIDE = [
    *("time_embedding.0", "time_embedding.2", "text_embedding.0", "text_embedding.2"),
    *("time_projection.1", "head.head"),
]


def blocks(parts: Iterable[str], layers: int = 2) -> list[str]:
    """Names of layers in every block."""
    return [f"blocks.{layer}.{part}" for layer in range(layers) for part in parts]


@dataclass
class Made:
    """An adapter: its file's tensors, and what merging it at strength 1 adds to each tensor of the model."""

    keys: State = field(default_factory=dict)
    changes: State = field(default_factory=dict)

    def add(self, tensor: str, change: Tensor) -> None:
        self.changes[tensor] = self.changes.get(tensor, torch.zeros(())) + change

    def save(self, path: Path) -> Path:
        save_file({name: value.clone() for name, value in self.keys.items()}, str(path))
        return path


@dataclass(frozen=True)
class Dialect:
    """How a tool writes a layer's two halves and alpha; ``module`` spells the layer's original name."""

    module: Callable[[str], str]
    down: str
    up: str
    alpha: bool = False


def underscored(module: str) -> str:
    return "lora_unet_" + module.replace(".", "_")


def in_diffusers(module: str) -> str:
    """Read off the mapping of names that diffusers' checkpoints are loaded by, the other way round."""
    return DIFFUSERS[module]


def old_processor(module: str) -> str:
    """``attn1.to_q`` as ``attn1.processor.to_q``, as before PEFT; ``to_out`` has no number there."""
    name = DIFFUSERS[module].replace("attn1.", "attn1.processor.").replace("attn2.", "attn2.processor.")
    return name.removesuffix(".0") if ".to_out" in name else name


def _diffusers_names() -> dict[str, str]:
    parts = [f"attn{index}.{part}" for index in (1, 2) for part in ("to_q", "to_k", "to_v", "to_out.0")]
    names = [
        f"blocks.{layer}.{part}" for layer in range(2) for part in [*parts, "ffn.net.0.proj", "ffn.net.2"]
    ]
    names += [f"blocks.{layer}.norm2" for layer in range(2)]
    names += [
        f"condition_embedder.{kind}_embedder.linear_{index}" for kind in ("time", "text") for index in (1, 2)
    ]
    names += ["condition_embedder.time_proj", "proj_out"]
    original = canonical([f"{name}.weight" for name in names])
    return {ours.removesuffix(".weight"): theirs.removesuffix(".weight") for ours, theirs in original.items()}


DIFFUSERS = _diffusers_names()
_NATIVE = ("lora_down.weight", "lora_up.weight")
_PEFT = ("lora_A.weight", "lora_B.weight")
DIALECTS: Mapping[str, Dialect] = {
    "native": Dialect(lambda name: f"diffusion_model.{name}.", *_NATIVE, alpha=True),
    "no prefix": Dialect(lambda name: f"{name}.", *_NATIVE, alpha=True),
    "no alpha": Dialect(lambda name: f"diffusion_model.{name}.", *_NATIVE),
    "comfy": Dialect(lambda name: f"model.diffusion_model.{name}.", *_NATIVE),
    "model": Dialect(lambda name: f"model.{name}.", *_NATIVE),
    "unet": Dialect(lambda name: f"unet.{name}.", *_NATIVE),
    "peft": Dialect(lambda name: f"diffusion_model.{name}.", *_PEFT),
    "peft default": Dialect(
        lambda name: f"base_model.model.{name}.", "lora_A.default.weight", "lora_B.default.weight"
    ),
    "underscore down": Dialect(lambda name: f"transformer.{name}_lora.", "down.weight", "up.weight"),
    "kohya": Dialect(lambda name: f"{underscored(name)}.", *_NATIVE, alpha=True),
    "kohya, fun": Dialect(lambda name: f"lora_unet__{name.replace('.', '_')}.", *_NATIVE, alpha=True),
    "diffsynth": Dialect(lambda name: f"pipe.dit.{name}.", "lora_A.default.weight", "lora_B.default.weight"),
    "diffusers": Dialect(lambda name: f"transformer.{in_diffusers(name)}.", *_PEFT),
    "diffusers bare": Dialect(lambda name: f"{in_diffusers(name)}.", *_PEFT),
    "diffusers underscores": Dialect(
        lambda name: f"{underscored(in_diffusers(name))}.", *_NATIVE, alpha=True
    ),
    "diffusers processors": Dialect(
        lambda name: f"transformer.{old_processor(name)}_lora.", "down.weight", "up.weight"
    ),
}


def low_rank(
    weights: Mapping[str, Tensor], modules: Iterable[str], dialect: Dialect, rank: int = 4, seed: int = 0
) -> Made:
    """Random pairs for ``modules`` of the model ``weights``, large enough to be seen."""
    rng, made = torch.Generator().manual_seed(seed), Made()
    for module in modules:
        weight = weights[f"{module}.weight"]
        down = torch.randn(rank, *weight.shape[1:], generator=rng) / weight[0].numel() ** 0.5
        up = torch.randn(len(weight), rank, generator=rng) * 0.5
        name, factor = dialect.module(module), 1.0
        made.keys |= {name + dialect.down: down, name + dialect.up: up}
        if dialect.alpha:
            made.keys[f"{name}alpha"] = torch.tensor(1.5)
            factor = 1.5 / rank
        made.add(f"{module}.weight", factor * (up @ down.flatten(1)).reshape(weight.shape))
    return made


def differences(weights: Mapping[str, Tensor], keys: Mapping[str, str], seed: int = 1) -> Made:
    """Random differences to tensors of the model, under ``keys`` of the file by tensor."""
    rng, made = torch.Generator().manual_seed(seed), Made()
    for tensor, key in keys.items():
        change = 0.1 * torch.randn(weights[tensor].shape, generator=rng)
        made.keys[key] = change
        made.add(tensor, change)
    return made
