"""Builds Wan's networks from opened weight files of any dialect, without a second copy of the weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import nn

from wanrun.errors import FormatError
from wanrun.gguf.int8 import LOW, MIDDLE, Int8Linear, make_int8
from wanrun.gguf.linear import make_linear
from wanrun.gguf.onednn import PackedLinear
from wanrun.gguf.policy import Policy
from wanrun.gguf.weights import Weights
from wanrun.wan.autoencoder import WanVAE, vae_config_from_shapes
from wanrun.wan.config import config_from_shapes
from wanrun.wan.model import Block, WanModel
from wanrun.wan.names import canonical
from wanrun.wan.tiny import TinyVAE, tiny_config_from_shapes

#: Linear layers that stay float32 in every precision: they see sigmas and write the velocity.
FLOAT32_LAYERS = ("time_embedding.", "time_projection.", "head.")


def load_transformer(
    weights: Weights, device: str, dtype: torch.dtype, policy: Policy | None = None
) -> WanModel:
    """A transformer that computes in ``dtype``; matrices are multiplied as ``policy`` says.

    Without one quantised matrices stay packed. Raises FormatError for a tensor that is missing or has
    another shape, naming the first ones.
    """
    names = canonical(weights.names)
    shapes = {name: weights.shape(stored) for name, stored in names.items()}
    # some tools drop the leading 1 of these
    shapes |= {
        name: (1, *shape) for name, shape in shapes.items() if name.endswith("modulation") and len(shape) == 2
    }
    with torch.device("meta"):
        model = WanModel(config_from_shapes(shapes), dtype)
    check_shapes(model, shapes, weights.header.path)
    linears = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    for name in linears:
        stored = names[f"{name}.weight"], names[f"{name}.bias"]
        if policy is not None and policy.int8 and bears_int8(name, model.config.layers):
            zero = LOW if name.endswith("ffn.2") else MIDDLE  # a GELU comes before ffn.2
            layer: nn.Module = make_int8(weights, *stored, dtype, zero)
        elif name.startswith(FLOAT32_LAYERS):
            layer = make_linear(weights, *stored, torch.float32, device)
        else:
            layer = make_linear(weights, *stored, dtype, device, policy)
        _replace(model, name, layer)
    done = {f"{name}.{kind}" for name in linears for kind in ("weight", "bias")}
    _assign(model, weights, {n: names[n] for n in names if n not in done}, torch.float32, device)
    return model.requires_grad_(False).eval()


def bears_int8(name: str, layers: int) -> bool:
    """Whether the linear layer ``name`` of a transformer of ``layers`` blocks may be multiplied in 8 bits.

    Not outside the blocks, not in the first and the last one, which see the noise and write the velocity, and
    not the text's keys and values, made but once a prompt.
    """
    match = re.fullmatch(r"blocks\.(\d+)\.(self_attn\.[qkvo]|cross_attn\.[qo]|ffn\.[02])", name)
    return match is not None and 0 < int(match[1]) < layers - 1


def fuse_gelu(model: WanModel) -> None:
    """Have the layer before or behind a GELU apply it where it can; adapters, inside it, come before this."""
    for block in cast("list[Block]", list(model.blocks)):
        first, _, second = block.ffn
        if isinstance(first, PackedLinear):
            first.gelu = True
        elif isinstance(second, Int8Linear):
            second.gelu = True
        else:
            continue
        block.ffn[1] = nn.Identity()


def load_vae(weights: Weights, device: str, dtype: torch.dtype) -> WanVAE:
    """Either VAE, its convolutions in ``dtype`` and its norms in float32."""
    names = canonical(weights.names)
    shapes = {name: weights.shape(stored) for name, stored in names.items()}
    config = vae_config_from_shapes(shapes)
    with torch.device("meta"):
        vae = WanVAE(config)
    check_shapes(vae, shapes, weights.header.path)
    statistics = WanVAE.statistics(config)
    for name, value in zip(("mean", "std"), statistics, strict=True):
        setattr(vae, name, value.to(device))
    _assign(vae, weights, names, dtype, device)
    return vae.requires_grad_(False).eval()


def load_tiny(weights: Weights, device: str, dtype: torch.dtype) -> TinyVAE:
    """A tiny autoencoder in ``dtype``."""
    names = {name: name for name in weights.names}
    shapes = {name: weights.shape(name) for name in names}
    with torch.device("meta"):
        tiny = TinyVAE(tiny_config_from_shapes(shapes))
    check_shapes(tiny, shapes, weights.header.path)
    _assign(tiny, weights, names, dtype, device)
    return tiny.requires_grad_(False).eval()


def check_shapes(module: nn.Module, shapes: Mapping[str, tuple[int, ...]], path: Path) -> None:
    """FormatError when ``shapes``, by original name, lack a tensor of ``module`` or have it otherwise."""
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    missing = [name for name in expected if name not in shapes]
    if missing:
        raise FormatError(f"{path}: {len(missing)} tensors are missing, such as {', '.join(missing[:3])}")
    wrong = [f"{n} {shapes[n]}, expected {want}" for n, want in expected.items() if shapes[n] != want]
    if wrong:
        raise FormatError(f"{path}: {len(wrong)} tensors have another shape: {'; '.join(wrong[:3])}")


def _assign(
    module: nn.Module, weights: Weights, names: dict[str, str], dtype: torch.dtype, device: str
) -> None:
    """Replace the meta parameters by stored tensors; what the module does not know is left in the file."""
    wanted = dict(module.named_parameters())
    for name, parameter in wanted.items():
        if not parameter.is_meta:
            continue
        kept = torch.float32 if name.endswith("gamma") else dtype
        value = weights.tensor(names[name], dtype=kept, device=device).reshape(parameter.shape)
        owner, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(owner), leaf, nn.Parameter(value, requires_grad=False))


def _replace(module: nn.Module, name: str, layer: nn.Module) -> None:
    owner, _, leaf = name.rpartition(".")
    parent = module.get_submodule(owner)
    setattr(parent, leaf, layer)
