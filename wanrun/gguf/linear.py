"""Multiplies by a matrix that stays packed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wanrun.errors import FormatError
from wanrun.gguf.dequantize import dequantize
from wanrun.gguf.types import tensor_type
from wanrun.gguf.weights import PackedTensor, Weights


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


def make_linear(
    weights: Weights,
    weight_name: str,
    bias_name: str | None,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
) -> nn.Module:
    """A linear layer of stored weights, not trainable: ``nn.Linear`` for float types, else ``QuantLinear``.

    FormatError when the weight is no matrix or the bias does not fit it.
    """
    shape = weights.shape(weight_name)
    if len(shape) != 2:
        raise FormatError(f"{weights.header.path}: {weight_name!r} has shape {shape}; a matrix is needed")
    if bias_name is not None and weights.shape(bias_name) != shape[:1]:
        raise FormatError(
            f"{weights.header.path}: {bias_name!r} has shape {weights.shape(bias_name)}, not {shape[:1]}"
        )
    bias = None if bias_name is None else weights.tensor(bias_name, dtype, device)
    if tensor_type(weights.type(weight_name)).quantised:
        return QuantLinear(weights.packed(weight_name), bias, dtype).to(device)
    linear = nn.Linear(shape[1], shape[0], bias is not None, device="meta")
    linear.weight = nn.Parameter(weights.tensor(weight_name, dtype, device), requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias, requires_grad=False)
    return linear
