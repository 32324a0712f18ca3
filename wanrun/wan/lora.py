"""Applies LoRA files to a loaded transformer whose weights stay as they are, packed or not.

A layer's output gains strength · (alpha / rank) · up(down(x)), which is what merging
strength · (alpha / rank) · up·down into its weight would give (Hu et al., arXiv 2106.09685); without an
alpha, as a key or in the metadata, the factor is 1. What is small or float32 anyway is changed itself:
biases, norms, modulation and the patch embedding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wanrun.errors import FormatError
from wanrun.gguf.weights import Weights
from wanrun.wan.config import WanConfig
from wanrun.wan.load import FLOAT32_LAYERS
from wanrun.wan.lora_layout import Layout, Pair, Shape, match_lora
from wanrun.wan.model import WanModel


class AdaptedLinear(nn.Module):
    """A linear layer of any kind, ``base``, and what adapters add to its output.

    ``down`` (rank, in) and ``up`` (rank, out) are the pairs of all adapters together, with every factor in
    ``up``; ``dense`` (in, out) is the sum of full differences. The result has the dtype of the input.
    """

    down: Tensor | None
    up: Tensor | None
    dense: Tensor | None

    def __init__(self, base: nn.Module, down: Tensor | None, up: Tensor | None, dense: Tensor | None) -> None:
        super().__init__()
        self.base = base
        self.register_buffer("down", down)
        self.register_buffer("up", up)
        self.register_buffer("dense", dense)

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.base(inputs)
        # added in place: a second tensor of the output's size would be the peak of a long clip
        rows, tokens = out.view(-1, out.shape[-1]), inputs.reshape(-1, inputs.shape[-1])
        if self.down is not None and self.up is not None:
            rows.addmm_(F.linear(tokens, self.down.to(tokens.dtype)), self.up.to(tokens.dtype))
        if self.dense is not None:
            rows.addmm_(tokens, self.dense.to(tokens.dtype))
        return out


@dataclass(frozen=True, slots=True)
class _Adapter:
    """An open file, what it changes, and how strongly."""

    weights: Weights
    layout: Layout
    strength: float

    def pair(self, layer: str) -> tuple[Tensor, Tensor] | None:
        """(rank, in) and (out, rank) float32 for ``layer``, every factor in the second."""
        pair = self.layout.pairs.get(layer)
        if pair is None:
            return None
        down, up = (self.weights.tensor(name).flatten(1) for name in (pair.down, pair.up))
        return down, up * self._factor(pair)

    def delta(self, tensor: str) -> Tensor | None:
        """What is added to ``tensor``, float32 and in the shape of the file."""
        key = self.layout.deltas.get(tensor)
        return None if key is None else self.weights.tensor(key) * self.strength

    def up_bias(self, tensor: str) -> Tensor | None:
        """What PEFT's second matrices add to the bias ``tensor``, float32."""
        pair = self.layout.pairs.get(tensor.removesuffix(".bias"))
        if pair is None or pair.up_bias is None or not tensor.endswith(".bias"):
            return None
        return self.weights.tensor(pair.up_bias) * self._factor(pair)

    def _factor(self, pair: Pair) -> float:
        stated = float(pair.rank) if pair.stated is None else pair.stated
        alpha = stated if pair.alpha is None else float(self.weights.tensor(pair.alpha))
        if not math.isfinite(alpha):
            raise FormatError(f"{self.weights.header.path}: {pair.alpha} is {alpha}, not a finite number")
        return self.strength * alpha / pair.rank


def adapt(model: WanModel, adapters: Sequence[tuple[Weights, float]]) -> list[Layout]:
    """Applies open LoRA files, each with its strength, to ``model``; returns what each one changes.

    Their matrices are copied in the precision that each layer computes in, so the files may be closed.
    Raises FormatError as ``match_lora`` does, and for numbers that are not finite.
    """
    if not adapters:
        return []
    shapes = transformer_shapes(model.config)
    opened = [_Adapter(weights, match_lora(weights.header, shapes), scale) for weights, scale in adapters]
    layers = {layer for each in opened for layer in each.layout.pairs}
    tensors = {tensor for each in opened for tensor in each.layout.deltas}
    tensors |= {
        f"{layer}.bias" for each in opened for layer, pair in each.layout.pairs.items() if pair.up_bias
    }
    matrices = {tensor for tensor in tensors if len(shapes[tensor]) == 2}
    for tensor in sorted(tensors - matrices):
        _change(model, tensor, opened)
    for layer in sorted(layers | {tensor.removesuffix(".weight") for tensor in matrices}):
        if len(shapes[f"{layer}.weight"]) == 2:
            _wrap(model, layer, opened)
        else:
            _merge(model, layer, opened)
    return [each.layout for each in opened]


def transformer_shapes(config: WanConfig) -> dict[str, Shape]:
    """The shapes of a transformer's tensors, by original name."""
    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in WanModel(config).state_dict().items()}


def _change(model: WanModel, tensor: str, adapters: Sequence[_Adapter]) -> None:
    """Adds the differences to a bias, norm, modulation or convolution."""
    found = [change for each in adapters for change in (each.delta(tensor), each.up_bias(tensor))]
    _add(model, tensor, [change for change in found if change is not None])


def _merge(model: WanModel, layer: str, adapters: Sequence[_Adapter]) -> None:
    """Adds the products of the pairs to the weight of a convolution."""
    pairs = [pair for each in adapters if (pair := each.pair(layer)) is not None]
    _add(model, f"{layer}.weight", [up @ down for down, up in pairs])


def _add(model: WanModel, tensor: str, changes: Sequence[Tensor]) -> None:
    owner, _, leaf = tensor.rpartition(".")
    module = model.get_submodule(owner)
    old: Tensor = getattr(module, leaf)
    total = old.float()
    for change in changes:
        total = total + change.reshape(old.shape).to(old.device)
    setattr(module, leaf, nn.Parameter(_finite(total.to(old.dtype), tensor), requires_grad=False))


def _wrap(model: WanModel, layer: str, adapters: Sequence[_Adapter]) -> None:
    """Puts an ``AdaptedLinear`` around the layer."""
    dtype = torch.float32 if layer.startswith(FLOAT32_LAYERS) else model.dtype
    device = model.patch_embedding.weight.device

    def made(matrix: Tensor) -> Tensor:
        return _finite(matrix.to(dtype).contiguous(), layer).to(device)

    pairs = [pair for each in adapters if (pair := each.pair(layer)) is not None]
    dense = [delta for each in adapters if (delta := each.delta(f"{layer}.weight")) is not None]
    owner, _, leaf = layer.rpartition(".")
    parent = model.get_submodule(owner)
    adapted = AdaptedLinear(
        getattr(parent, leaf),
        made(torch.cat([down for down, _ in pairs])) if pairs else None,
        made(torch.cat([up.t() for _, up in pairs])) if pairs else None,
        made(torch.stack(dense).sum(0).t()) if dense else None,
    )
    setattr(parent, leaf, adapted)


def _finite(values: Tensor, name: str) -> Tensor:
    if not torch.isfinite(values).all():
        raise FormatError(
            f"the adapter makes {name} infinite or NaN: the file is damaged, or its scale too big"
        )
    return values
