"""ggml's product of packed weights, against the product of the weights it would unpack."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.gguf.test_ggml import MADE
from wanrun.gguf import ggml, product
from wanrun.gguf.dequantize import dequantize
from wanrun.gguf.types import tensor_type

SHAPE = (96, 512)


def packed(kind: str, offset: int = 0) -> Tensor:
    """Random weights, ``offset`` bytes after an address that ggml takes."""
    rows = np.random.default_rng(0).standard_normal(SHAPE, np.float32) / SHAPE[1] ** 0.5
    data = ggml.quantize(kind, rows)
    memory = torch.empty(offset + len(data), dtype=torch.uint8)
    memory[offset:] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    return memory[offset:]


def tokens(count: int) -> Tensor:
    return torch.randn(count, SHAPE[1], generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", MADE)
def test_every_type_is_within_one_percent_of_its_unpacked_weights(kind: str) -> None:
    weights, inputs = packed(kind), tokens(130)
    assert product.problem(kind, weights, SHAPE) is None
    exact = F.linear(inputs.double(), dequantize(kind, weights, SHAPE, torch.float32).double())
    error = (product.multiply(kind, weights, SHAPE, inputs) - exact).norm() / exact.norm()
    assert float(error) < 0.01


@pytest.mark.parametrize("count", [0, 1, 63, 64, 129, 1000])
def test_threads_and_neighbours_change_nothing(count: int) -> None:
    weights, inputs = packed("Q4_K"), tokens(count)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(product.multiply("Q4_K", weights, SHAPE, inputs))
    finally:
        torch.set_num_threads(before)
    assert results[0].shape == (count, SHAPE[0])
    assert all(torch.equal(results[0], other) for other in results)
    if count > 1:
        assert torch.equal(product.multiply("Q4_K", weights, SHAPE, inputs[1:]), results[0][1:])


def test_inputs_may_lie_anywhere() -> None:
    weights, inputs = packed("Q4_K"), tokens(9)
    expected = product.multiply("Q4_K", weights, SHAPE, inputs)
    odd = torch.empty(9 * SHAPE[1] + 1)[1:].view(9, SHAPE[1]).copy_(inputs)
    turned = inputs.t().contiguous().t()
    assert odd.data_ptr() % 32
    assert not turned.is_contiguous()
    for same in (odd, turned):
        assert torch.equal(product.multiply("Q4_K", weights, SHAPE, same), expected)


def test_what_would_stop_the_process_is_a_problem() -> None:
    assert "multiple of 32" in str(product.problem("Q4_K", packed("Q4_K", 8), SHAPE))
    assert "whole blocks" in str(product.problem("Q4_K", packed("Q4_K"), (192, 128 + 128 // 2)))
    assert "whole blocks" in str(product.problem("Q4_K", torch.empty(0, dtype=torch.uint8), (0, 512)))
    assert "whole blocks" in str(product.problem("F16", torch.empty(1024, dtype=torch.uint8), (1, 512)))
    assert "no type" in str(product.problem("F8_E4M3", torch.empty(512, dtype=torch.uint8), (1, 512)))
    assert "Q8_1" in str(product.problem("Q8_1", torch.empty(576, dtype=torch.uint8), (1, 512)))
    assert tensor_type("Q4_K").block == 256
