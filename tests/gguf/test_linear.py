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
from wanrun.gguf.linear import GgmlLinear, QuantLinear, make_linear
from wanrun.gguf.onednn import PackedLinear, packs
from wanrun.gguf.policy import GGML, PER_USE, RESIDENT, Policy
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


def layer_by(weights: Weights, kind: str, way: str, dtype: torch.dtype = torch.bfloat16) -> nn.Module:
    """The layer of ``kind`` that is multiplied in this ``way``, if the type has it."""
    rates = {RESIDENT: 1.0, PER_USE: 1.0, GGML: 9.0} if way == GGML else {RESIDENT: 1.0, PER_USE: 1.0}
    policy = Policy(1 << 30 if way == RESIDENT else 0, lambda kind, dtype: rates)
    return make_linear(weights, kind, "bias", dtype, policy=policy)


@pytest.mark.parametrize("kind", [*MADE, "F16", "F32"])
@pytest.mark.parametrize("way", [RESIDENT, PER_USE, GGML])
def test_every_way_agrees_with_the_unpacked_weight(weights: Weights, kind: str, way: str) -> None:
    _, bias, tokens = exact()
    theirs = F.linear(tokens, weights.tensor(kind), bias)
    result = layer_by(weights, kind, way)(tokens.to(torch.bfloat16))
    assert result.dtype == torch.bfloat16
    assert relative(result, theirs) < 0.01


def test_each_way_is_a_layer_of_its_own(weights: Weights) -> None:
    unpacked = PackedLinear if packs(torch.bfloat16) else nn.Linear
    assert type(layer_by(weights, "Q4_K", RESIDENT)) is unpacked
    assert type(layer_by(weights, "Q4_K", RESIDENT, torch.float32)) is nn.Linear
    assert type(layer_by(weights, "Q4_K", PER_USE)) is QuantLinear
    assert type(layer_by(weights, "Q4_K", GGML)) is GgmlLinear
    assert type(layer_by(weights, "F16", PER_USE)) is QuantLinear  # a bfloat16 copy would need room
    assert type(layer_by(weights, "F16", PER_USE, torch.float16)) is nn.Linear  # the file itself
    tokens = exact()[2].to(torch.bfloat16)
    once, per_use = layer_by(weights, "Q4_K", RESIDENT), layer_by(weights, "Q4_K", PER_USE)
    assert torch.equal(once(tokens), per_use(tokens))


def test_ggml_takes_more_tokens_than_it_holds_at_once(weights: Weights) -> None:
    tokens = torch.randn(2, 2100, IN, generator=torch.Generator().manual_seed(2))
    layer = make_linear(
        weights, "Q6_K", None, torch.float32, policy=Policy(0, lambda kind, dtype: {RESIDENT: 1.0, GGML: 9.0})
    )
    assert isinstance(layer, GgmlLinear)
    assert torch.equal(layer(tokens)[1, 2000:], layer(tokens[1, 2000:]))


def test_what_makes_no_layer_is_named(weights: Weights) -> None:
    with pytest.raises(FormatError, match=r"'cube' has shape \(2, 3, 4\)"):
        make_linear(weights, "cube", None, torch.float32)
    with pytest.raises(FormatError, match=r"'Q8_0' has shape \(96, 512\), not \(96,\)"):
        make_linear(weights, "Q4_K", "Q8_0", torch.float32)
    with pytest.raises(FormatError, match="no tensor 'Q8_'"):
        make_linear(weights, "Q8_", None, torch.float32)
