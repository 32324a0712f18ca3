"""Multiplies 8-bit weights by 8-bit activations: twice the speed of bfloat16 on a CPU with VNNI.

Weights have one scale per output row, made once; activations one per token, made at each use. Both are
symmetric around zero. About 1 % of the result is rounding where values are spread like a Gaussian.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from wanrun.gguf.dequantize import dequantize
from wanrun.gguf.linear import check_linear
from wanrun.gguf.weights import Weights

#: (tokens, in) int8 -> (tokens, out): products with the rows, each times its row's scale.
Product: TypeAlias = Callable[[Tensor], Tensor]

_LARGEST = 127
#: Rows and tokens that are rounded at once, so that their float32 copies stay in the cache.
_CHUNK_ROWS = 64
#: Keeps rows of zeros from dividing by zero.
_SMALLEST_SCALE = 1e-20


class Int8Linear(nn.Module):
    """A linear layer on the CPU over (out, in) ``weight``, of which only the 8-bit form is kept.

    The result has the dtype of the input.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.shape = tuple(weight.shape)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self._product = pick_product()(*quantize_rows(weight))

    def forward(self, inputs: Tensor) -> Tensor:
        tokens = inputs.reshape(-1, self.shape[1])
        rounded, scales = quantize_rows(tokens)
        products, scales = self._product(rounded).to(inputs.dtype), scales.to(inputs.dtype)
        if self.bias is None:
            out = products * scales
        else:
            out = torch.addcmul(self.bias.to(inputs.dtype), products, scales)
        return out.reshape(*inputs.shape[:-1], self.shape[0])

    def extra_repr(self) -> str:
        return f"shape={self.shape}, bias={self.bias is not None}"


def quantize_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(rows, columns) as int8 and (rows, 1) float32 scales that bfloat16 holds exactly."""
    rounded = torch.empty(rows.shape, dtype=torch.int8)
    scales = torch.empty(len(rows), 1)
    chunks = (tensor.split(_CHUNK_ROWS) for tensor in (rows, rounded, scales))
    for source, target, scale in zip(*chunks, strict=True):
        values = source.float()
        largest = values.abs().amax(1, keepdim=True)
        # rounded to bfloat16 here, before it divides, a scale costs no precision where it multiplies;
        # it moves by less than 0.2 %, so that no value rounds to 128
        scale.copy_((largest / _LARGEST).clamp_(min=_SMALLEST_SCALE).bfloat16())
        target.copy_((values / scale).round_())
    return rounded, scales


def pick_product() -> Callable[[Tensor, Tensor], Product]:
    """oneDNN's product where the CPU has VNNI: elsewhere it may saturate sums of two products at 16 bits."""
    features = torch.cpu.get_capabilities()
    vnni = features.get("avx512_vnni") or features.get("avx_vnni")
    return onednn_product if vnni and torch.backends.mkldnn.is_available() else torch_product


def onednn_product(rounded: Tensor, scales: Tensor) -> Product:
    """Products with (out, in) int8 rows through oneDNN, bfloat16; the rows are packed as it wants them."""
    packed = torch.ops.onednn.qlinear_prepack(rounded, None)
    row_scales, zero_points = scales.flatten(), torch.zeros(len(rounded), dtype=torch.int32)

    def product(activations: Tensor) -> Tensor:
        # VNNI multiplies unsigned by signed bytes: the highest bit flipped adds 128, the zero point
        unsigned = activations.view(torch.uint8).bitwise_xor(128)
        result: Tensor = torch.ops.onednn.qlinear_pointwise(
            *(unsigned, 1.0, 128, packed, row_scales, zero_points),
            *(None, 1.0, 0, torch.bfloat16, "none", [], ""),
        )
        return result

    return product


def torch_product(rounded: Tensor, scales: Tensor) -> Product:
    """The same through torch's integer product, float32."""
    columns, row_scales = rounded.t(), scales.flatten()
    return lambda activations: torch._int_mm(activations, columns).float().mul_(row_scales)


def make_int8(weights: Weights, weight_name: str, bias_name: str | None, dtype: torch.dtype) -> Int8Linear:
    """An ``Int8Linear`` of stored weights, its bias in ``dtype``; raises as ``make_linear``."""
    check_linear(weights, weight_name, bias_name)
    packed = weights.packed(weight_name)
    bias = None if bias_name is None else weights.tensor(bias_name, dtype)
    return Int8Linear(dequantize(packed.type, packed.data, packed.shape, torch.bfloat16), bias)
