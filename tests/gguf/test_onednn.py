"""A matrix in oneDNN's order gives what torch's layer gives."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from wanrun.gguf.onednn import PackedLinear, packs

pytestmark = pytest.mark.skipif(not packs(torch.bfloat16), reason="this CPU multiplies no bfloat16")


def made(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("outputs", [64, 100])
@pytest.mark.parametrize("inputs", [64, 84])
@pytest.mark.parametrize("tokens", [1, 77])
@pytest.mark.parametrize("biased", [True, False])
def test_it_equals_the_linear_layer(outputs: int, inputs: int, tokens: int, biased: bool) -> None:
    weight, bias = made(outputs, inputs, seed=1).bfloat16(), made(outputs, seed=2).bfloat16()
    rows = made(2, tokens, inputs, seed=3).bfloat16()
    layer = PackedLinear(weight, bias if biased else None)
    assert torch.equal(layer(rows), F.linear(rows, weight, bias if biased else None))


def test_with_the_gelu_it_is_nearer_to_the_exact_result() -> None:
    weight, bias = made(300, 256, seed=1).bfloat16() / 16, made(300, seed=2).bfloat16()
    rows = made(2, 50, 256, seed=3).bfloat16()
    exact = F.gelu(F.linear(rows.float(), weight.float(), bias.float()), approximate="tanh")
    layer = PackedLinear(weight, bias)
    layer.gelu = True
    fused, apart = layer(rows), F.gelu(F.linear(rows, weight, bias), approximate="tanh")
    assert (fused - exact).norm() < (apart - exact).norm() < 0.005 * exact.norm()
