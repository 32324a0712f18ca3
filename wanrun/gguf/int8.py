"""Multiplies 8-bit weights by 8-bit activations: twice the speed of bfloat16 on a CPU with VNNI.

Weights have one scale per output row, made once, and are symmetric around zero. Activations have one per
token, made at each use, and 256 levels of which one is zero: the middle one, or a low one behind a GELU,
which gives nothing below -0.17. About 1 % of the result is rounding where values are spread like a Gaussian.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from wanrun.gguf.dequantize import dequantize
from wanrun.gguf.linear import check_linear
from wanrun.gguf.weights import Weights

#: (tokens, in) levels, uint8, and which of them is zero -> (tokens, out): products with the rows, each times
#: its row's scale.
Product: TypeAlias = Callable[[Tensor, int], Tensor]

#: Levels that are zero: of activations of both signs, and of those behind a GELU.
MIDDLE, LOW = 128, 24
_LARGEST = 127
#: Rows and tokens that are rounded at once, so that their float32 copies stay in the cache.
_CHUNK_ROWS = 64
#: Keeps rows of zeros from dividing by zero.
_SMALLEST_SCALE = 1e-20
#: More than a bfloat16 scale can be too small by: a value rounds to no level beyond the last.
_MARGIN = 1.004


class Int8Linear(nn.Module):
    """A linear layer on the CPU over (out, in) ``weight``, of which only the 8-bit form is kept.

    ``zero`` is the activations' level of zero. The result has the dtype of the input. With ``gelu`` the tanh
    GELU comes first, while what is rounded is in the cache.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, zero: int = MIDDLE) -> None:
        super().__init__()
        self.shape, self.zero, self.gelu = tuple(weight.shape), zero, False
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self._product = pick_product()(*quantize_rows(weight))

    def forward(self, inputs: Tensor) -> Tensor:
        tokens = inputs.reshape(-1, self.shape[1])
        levels, scales = quantize_tokens(tokens, self.zero, gelu if self.gelu else Tensor.float)
        products, scales = self._product(levels, self.zero).to(inputs.dtype), scales.to(inputs.dtype)
        if self.bias is None:
            out = products * scales
        else:
            out = torch.addcmul(self.bias.to(inputs.dtype), products, scales)
        return out.reshape(*inputs.shape[:-1], self.shape[0])

    def extra_repr(self) -> str:
        return f"shape={self.shape}, bias={self.bias is not None}, zero={self.zero}, gelu={self.gelu}"


def gelu(values: Tensor) -> Tensor:
    """The tanh GELU in float32, as x·sigmoid(2√(2/π)·(x + 0.044715·x³)), half as long as torch's own."""
    x = values.float()
    logit = x.square().mul_(0.044715).add_(1).mul_(x).mul_(2 * math.sqrt(2 / math.pi))
    return logit.sigmoid_().mul_(x)


def quantize_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(rows, columns) as int8, symmetric, and (rows, 1) float32 scales that bfloat16 holds exactly."""
    levels, scales = quantize_tokens(rows, MIDDLE)
    return levels.bitwise_xor_(MIDDLE).view(torch.int8), scales


def quantize_tokens(
    tokens: Tensor, zero: int, read: Callable[[Tensor], Tensor] = Tensor.float
) -> tuple[Tensor, Tensor]:
    """(tokens, columns) as uint8, of which ``zero`` means 0, and (tokens, 1) scales as ``quantize_rows``.

    What is rounded is what ``read`` makes of some tokens, float32.
    """
    levels = torch.empty(tokens.shape, dtype=torch.uint8)
    scales = torch.empty(len(tokens), 1)
    chunks = (tensor.split(_CHUNK_ROWS) for tensor in (tokens, levels, scales))
    for source, target, scale in zip(*chunks, strict=True):
        values = read(source)
        scale.copy_(_scale(values, zero))
        target.copy_(values.div(scale).add_(zero + 0.5))  # the copy cuts what lies behind the point
    return levels, scales


def _scale(values: Tensor, zero: int) -> Tensor:
    """The smallest step with which a row's values reach no level beyond the first and the last.

    Rounded to bfloat16 here, before it divides, it costs no precision where it multiplies.
    """
    if zero == MIDDLE:
        step = values.abs().amax(1, keepdim=True) / _LARGEST
    else:
        above, below = values.amax(1, keepdim=True), values.amin(1, keepdim=True)
        step = _MARGIN * torch.maximum(above / (255 - zero), below / -zero)
    return step.clamp_(min=_SMALLEST_SCALE).bfloat16()


def pick_product() -> Callable[[Tensor, Tensor], Product]:
    """oneDNN's product where the CPU has VNNI: elsewhere it may saturate sums of two products at 16 bits."""
    features = torch.cpu.get_capabilities()
    vnni = features.get("avx512_vnni") or features.get("avx_vnni")
    return onednn_product if vnni and torch.backends.mkldnn.is_available() else torch_product


def onednn_product(rounded: Tensor, scales: Tensor) -> Product:
    """Products with (out, in) int8 rows through oneDNN, bfloat16; the rows are packed as it wants them."""
    packed = torch.ops.onednn.qlinear_prepack(rounded, None)
    row_scales, zero_points = scales.flatten(), torch.zeros(len(rounded), dtype=torch.int32)

    def product(levels: Tensor, zero: int) -> Tensor:
        result: Tensor = torch.ops.onednn.qlinear_pointwise(
            *(levels, 1.0, zero, packed, row_scales, zero_points),
            *(None, 1.0, 0, torch.bfloat16, "none", [], ""),
        )
        return result

    return product


def torch_product(rounded: Tensor, scales: Tensor) -> Product:
    """The same through torch's integer product, float32."""
    columns, row_scales, sums = rounded.t(), scales.flatten(), rounded.sum(1, dtype=torch.int32)

    def product(levels: Tensor, zero: int) -> Tensor:
        # it multiplies signed bytes: the highest bit flipped takes 128 away
        signed = levels.bitwise_xor(128).view(torch.int8)
        products = torch._int_mm(signed, columns).add_((128 - zero) * sums)
        return products.float().mul_(row_scales)

    return product


def make_int8(
    weights: Weights, weight_name: str, bias_name: str | None, dtype: torch.dtype, zero: int = MIDDLE
) -> Int8Linear:
    """An ``Int8Linear`` of stored weights, its bias in ``dtype``; raises as ``make_linear``."""
    check_linear(weights, weight_name, bias_name)
    packed = weights.packed(weight_name)
    bias = None if bias_name is None else weights.tensor(bias_name, dtype)
    return Int8Linear(dequantize(packed.type, packed.data, packed.shape, torch.bfloat16), bias, zero)
