"""8-bit products: near the exact ones, and the same through either library."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.gguf.test_linear import exact, relative
from wanrun.errors import FormatError
from wanrun.gguf import ggml
from wanrun.gguf.int8 import (
    LOW,
    MIDDLE,
    Int8Linear,
    gelu,
    make_int8,
    onednn_product,
    quantize_rows,
    quantize_tokens,
    torch_product,
)
from wanrun.gguf.weights import open_weights
from wanrun.gguf.writer import write_gguf


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_product_is_within_the_rounding_of_eight_bits(dtype: torch.dtype) -> None:
    weight, bias, tokens = exact()
    result = Int8Linear(weight, bias)(tokens.to(dtype))
    assert result.dtype == dtype
    assert result.shape == (*tokens.shape[:-1], len(weight))
    assert relative(result, F.linear(tokens, weight, bias)) < 0.015
    assert relative(Int8Linear(weight, None)(tokens.to(dtype)), F.linear(tokens, weight)) < 0.015


@pytest.mark.parametrize("zero", [MIDDLE, LOW])
def test_both_libraries_give_the_same(zero: int) -> None:
    weight, _, tokens = exact()
    rows, scales = quantize_rows(weight)
    levels, _ = quantize_tokens(tokens.flatten(0, 1), zero)
    exact_sums = ((levels.double() - zero) @ rows.double().t()) * scales.flatten().double()
    ours, theirs = onednn_product(rows, scales)(levels, zero), torch_product(rows, scales)(levels, zero)
    assert relative(theirs, exact_sums) < 1e-6
    assert torch.equal(ours, theirs.bfloat16())


@pytest.mark.parametrize("zero", [MIDDLE, LOW])
def test_no_value_goes_beyond_the_levels(zero: int) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(3000, 32, generator=generator) * torch.logspace(-15, 15, 3000)[:, None]
    tokens[::3] = tokens[::3].abs()
    levels, scales = quantize_tokens(tokens, zero)
    assert torch.equal(scales, scales.bfloat16().float())
    assert float((((levels.float() - zero) * scales - tokens).abs() / scales).max()) <= 0.51


def test_behind_a_gelu_a_low_zero_rounds_less() -> None:
    tokens = F.gelu(torch.randn(50, 512, generator=torch.Generator().manual_seed(0)), approximate="tanh")
    errors = {}
    for zero in (MIDDLE, LOW):
        levels, scales = quantize_tokens(tokens, zero)
        errors[zero] = relative((levels.float() - zero) * scales, tokens)
    assert errors[LOW] < 0.6 * errors[MIDDLE]


def test_the_gelu_is_torchs_and_comes_before_the_rounding() -> None:
    values = torch.cat([torch.linspace(-30, 30, 6001), torch.tensor([-1e30, -0.0, 0.0, 1e30])])
    assert torch.allclose(gelu(values), F.gelu(values, approximate="tanh"), rtol=2e-6, atol=1e-6)
    generator = torch.Generator().manual_seed(0)
    weight, tokens = torch.randn(8, 96, generator=generator), torch.randn(70, 96, generator=generator)
    layer = Int8Linear(weight, None, LOW)
    behind = layer(F.gelu(tokens, approximate="tanh"))
    layer.gelu = True
    assert relative(layer(tokens), behind) < 1e-3


def test_scales_are_exact_in_bfloat16_and_use_the_whole_range() -> None:
    rows = torch.randn(1000, 64, generator=torch.Generator().manual_seed(0)).mul_(
        torch.logspace(-15, 15, 1000)[:, None]
    )
    rounded, scales = quantize_rows(rows)
    assert torch.equal(scales, scales.bfloat16().float())
    assert set(rounded.abs().amax(1).tolist()) <= {126, 127}
    assert int(rounded.min()) == -127  # not −128, which −127 times −1 would not be
    assert float(((rounded * scales - rows).abs() / scales).max()) <= 0.51


def test_a_token_does_not_depend_on_its_neighbours() -> None:
    weight, bias, tokens = exact()
    layer = Int8Linear(weight, bias)
    tokens[0, 0] *= 1e4
    assert torch.equal(layer(tokens)[1], layer(tokens[1:])[0])


def test_zeros_and_nothing() -> None:
    weight, bias, tokens = exact()
    weight[3] = 0
    layer = Int8Linear(weight, bias)
    assert torch.equal(layer(torch.zeros_like(tokens)), bias.expand(*tokens.shape[:-1], -1))
    assert torch.equal(layer(tokens)[..., 3], bias[3].expand(tokens.shape[:-1]))
    assert layer(tokens[:, :0]).shape == (2, 0, len(weight))


def test_stored_weights_make_a_layer(tmp_path: Path) -> None:
    weight, bias, tokens = exact()
    path = tmp_path / "w.gguf"
    stored: list[tuple[str, str, tuple[int, ...], bytes]] = [
        ("w", "Q8_0", tuple(weight.shape), ggml.quantize("Q8_0", weight.numpy())),
        ("b", "F32", tuple(bias.shape), bias.numpy().tobytes()),
    ]
    write_gguf(path, {}, stored)
    with open_weights(path) as weights:
        layer = make_int8(weights, "w", "b", torch.float32)
        with pytest.raises(FormatError, match="a matrix is needed"):
            make_int8(weights, "b", None, torch.float32)
    held: list[Tensor] = [*layer.parameters(), *layer.buffers()]
    assert [tensor.shape for tensor in held] == [bias.shape]  # the unpacked weight is gone
    assert relative(layer(tokens), F.linear(tokens, weight, bias)) < 0.02
    assert "(96, 512)" in repr(layer)
