"""Multiplies by a matrix that stays packed, or by one that was unpacked once.

Each way is a layer of its own over the same stored weight; ``policy`` says which is used where.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wanrun.errors import FormatError
from wanrun.gguf import product
from wanrun.gguf.dequantize import PLAIN, dequantize
from wanrun.gguf.onednn import PackedLinear, packs
from wanrun.gguf.policy import GGML, RESIDENT, Policy
from wanrun.gguf.types import tensor_type
from wanrun.gguf.weights import PackedTensor, Weights

#: Tokens that ggml multiplies at once, which bounds the float32 copies of what goes in and comes out.
_CHUNK_TOKENS = 2048


class QuantLinear(nn.Module):
    """A linear layer whose (out, in) weight is dequantised to ``dtype`` at each use and then dropped.

    The product and its result have the dtype of the input.
    """

    packed: Tensor

    def __init__(self, weight: PackedTensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__()
        self.kind = weight.type
        self.shape = weight.shape
        self.dtype = dtype
        self.register_buffer("packed", weight.data)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    def weight(self) -> Tensor:
        """The (out, in) weight in ``dtype``."""
        return dequantize(self.kind, self.packed, self.shape, self.dtype)

    def forward(self, inputs: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(inputs.dtype)
        return F.linear(inputs, self.weight().to(inputs.dtype), bias)

    def extra_repr(self) -> str:
        return f"{self.kind}, shape={self.shape}, bias={self.bias is not None}, dtype={self.dtype}"


class GgmlLinear(QuantLinear):
    """A linear layer on the CPU whose weight ggml multiplies by as it is packed (see ``product``)."""

    def forward(self, inputs: Tensor) -> Tensor:
        tokens = inputs.reshape(-1, self.shape[1])
        out = torch.empty(len(tokens), self.shape[0], dtype=inputs.dtype)
        for source, target in zip(tokens.split(_CHUNK_TOKENS), out.split(_CHUNK_TOKENS), strict=True):
            products = product.multiply(self.kind, self.packed, self.shape, source.float())
            target.copy_(products if self.bias is None else products.add_(self.bias))
        return out.reshape(*inputs.shape[:-1], self.shape[0])


def make_linear(
    weights: Weights,
    weight_name: str,
    bias_name: str | None,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
    policy: Policy | None = None,
) -> nn.Module:
    """A linear layer of stored weights, not trainable, as ``policy`` picks.

    Without one it is ``nn.Linear`` for float types, and others are dequantised at each use. FormatError when
    the weight is no matrix or the bias does not fit it.
    """
    check_linear(weights, weight_name, bias_name)
    bias = None if bias_name is None else weights.tensor(bias_name, dtype, device)
    kind = weights.type(weight_name)
    packed = weights.packed(weight_name)
    quantised = tensor_type(kind).quantised
    if policy is None or torch.device(device).type != "cpu" or PLAIN.get(kind) == dtype:
        if quantised:
            return QuantLinear(packed, bias, dtype).to(device)
    else:
        way = policy.pick(packed, dtype)
        if way == GGML:
            return GgmlLinear(packed, bias, dtype)
        if way != RESIDENT:
            return QuantLinear(packed, bias, dtype)
        if packs(dtype):
            return PackedLinear(weights.tensor(weight_name, dtype), bias)
    out_features, in_features = packed.shape
    linear = nn.Linear(in_features, out_features, bias is not None, device="meta")
    linear.weight = nn.Parameter(weights.tensor(weight_name, dtype, device), requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias, requires_grad=False)
    return linear


def check_linear(weights: Weights, weight_name: str, bias_name: str | None) -> None:
    """FormatError when the weight is no matrix or the bias does not fit it."""
    shape = weights.shape(weight_name)
    if len(shape) != 2:
        raise FormatError(f"{weights.header.path}: {weight_name!r} has shape {shape}; a matrix is needed")
    if bias_name is not None and weights.shape(bias_name) != shape[:1]:
        raise FormatError(
            f"{weights.header.path}: {bias_name!r} has shape {weights.shape(bias_name)}, not {shape[:1]}"
        )
