"""Tests linear layers of stored weights against the exact product."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.gguf.test_ggml import MADE
from wanrun.errors import FormatError
from wanrun.gguf import ggml
from wanrun.gguf.linear import QuantLinear, make_linear
from wanrun.gguf.types import TYPES
from wanrun.gguf.weights import Weights, open_weights
from wanrun.gguf.writer import TensorSource, write_gguf

OUT, IN = 96, 512


def exact() -> tuple[Tensor, Tensor, Tensor]:
    """A weight as DiTs have them, a bias and tokens."""
    rng = torch.Generator().manual_seed(0)
    weight = torch.randn(OUT, IN, generator=rng) / IN**0.5
    return weight, torch.randn(OUT, generator=rng), torch.randn(2, 7, IN, generator=rng)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    weight, bias, _ = exact()
    kinds = [*MADE, "F32", "F16", "BF16"]
    stored: list[TensorSource] = [
        (kind, kind, weight.shape, ggml.quantize(kind, weight.numpy())) for kind in kinds
    ]
    more: list[TensorSource] = [("bias", "F32", (OUT,), bias.numpy()), ("cube", "F32", (2, 3, 4), bytes(96))]
    path = tmp_path_factory.mktemp("linear") / "w.gguf"
    write_gguf(path, {}, [*stored, *more])
    return open_weights(path)


def relative(ours: Tensor, theirs: Tensor) -> float:
    return float((ours.double() - theirs.double()).norm() / theirs.double().norm())


def test_q8_0_is_within_one_percent_of_exact(weights: Weights) -> None:
    weight, bias, tokens = exact()
    layer = make_linear(weights, "Q8_0", "bias", torch.float32)
    assert isinstance(layer, QuantLinear)
    assert relative(layer(tokens), F.linear(tokens, weight, bias)) < 0.01


@pytest.mark.parametrize("kind", MADE)
def test_products_are_those_of_the_unpacked_weight(weights: Weights, kind: str) -> None:
    _, bias, tokens = exact()
    unpacked = np.empty((OUT, IN), np.float32)
    ggml.dequantize(kind, weights.packed(kind).data.numpy(), unpacked)
    theirs = F.linear(tokens, torch.from_numpy(unpacked), bias)
    layer = make_linear(weights, kind, "bias", torch.float32)
    assert isinstance(layer, QuantLinear) and torch.equal(layer(tokens), theirs)
    low = make_linear(weights, kind, "bias", torch.bfloat16)
    result = low(tokens.to(torch.bfloat16))
    assert result.dtype == torch.bfloat16 and relative(result, theirs) < 0.01


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
def test_float_weights_make_a_plain_layer(weights: Weights, kind: str) -> None:
    weight, bias, tokens = exact()
    layer = make_linear(weights, kind, "bias", torch.float32)
    assert type(layer) is nn.Linear
    assert (layer.in_features, layer.out_features) == (IN, OUT)
    assert not any(parameter.requires_grad for parameter in layer.parameters())
    assert (
        relative(layer(tokens), F.linear(tokens, weight, bias))
        < {"F32": 1e-6, "F16": 1e-3, "BF16": 5e-3}[kind]
    )


def test_the_result_has_the_dtype_of_the_input(weights: Weights) -> None:
    layer = make_linear(weights, "Q4_K", "bias", torch.bfloat16)
    assert layer(exact()[2]).dtype == torch.float32


def test_without_a_bias(weights: Weights) -> None:
    _, _, tokens = exact()
    for kind in ("Q8_0", "F32"):
        layer = make_linear(weights, kind, None, torch.float32)
        assert torch.equal(layer(torch.zeros_like(tokens)), torch.zeros(2, 7, OUT))
        assert len(list(layer.parameters())) == (1 if kind == "F32" else 0)


def test_the_weight_stays_packed(weights: Weights) -> None:
    layer = make_linear(weights, "Q4_K", "bias", torch.float32)
    (buffer,) = layer.buffers()
    assert buffer.data_ptr() == weights.packed("Q4_K").data.data_ptr()
    assert buffer.numel() == TYPES["Q4_K"].nbytes(OUT * IN)
    assert "Q4_K" in repr(layer)
    moved = layer.to(torch.bfloat16)
    assert next(moved.buffers()).dtype == torch.uint8


def test_what_makes_no_layer_is_named(weights: Weights) -> None:
    with pytest.raises(FormatError, match=r"'cube' has shape \(2, 3, 4\)"):
        make_linear(weights, "cube", None, torch.float32)
    with pytest.raises(FormatError, match=r"'Q8_0' has shape \(96, 512\), not \(96,\)"):
        make_linear(weights, "Q4_K", "Q8_0", torch.float32)
    with pytest.raises(FormatError, match="no tensor 'Q8_'"):
        make_linear(weights, "Q8_", None, torch.float32)
