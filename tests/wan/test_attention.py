"""Attention by either routine against the formula in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from wanrun.wan.attention import attention, chunked


def inputs(batch: int, heads: int, tokens: int, keys: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values as the model has them: a token's heads lie side by side."""
    rng = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(batch, count, heads, 128, generator=rng).to(torch.bfloat16).transpose(1, 2)
        for count in (tokens, keys, keys)
    )
    return query, key, value


def padding(batch: int, keys: int) -> Tensor:
    """The bias of prompts of different lengths."""
    bias = torch.zeros(batch, 1, 1, keys)
    for row in range(batch):
        bias[row, ..., keys - 1 - row] = math.log(400)
        bias[row, ..., keys - row :] = -math.inf
    return bias


def formula(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    logits = query.double() @ key.double().transpose(2, 3) / 128**0.5
    mixed: Tensor = (logits if bias is None else logits + bias.double()).softmax(-1) @ value.double()
    return mixed


@pytest.mark.parametrize(
    ("batch", "heads", "tokens", "keys"),
    [(1, 2, 600, 600), (2, 3, 40, 9), (1, 1, 1, 1), (1, 5, 256, 257), (1, 3, 700, 400)],
)
@pytest.mark.parametrize("biased", [False, True])
def test_chunks_equal_the_formula(batch: int, heads: int, tokens: int, keys: int, biased: bool) -> None:
    query, key, value = inputs(batch, heads, tokens, keys)
    bias = padding(batch, keys) if biased else None
    exact = formula(query, key, value, bias)
    ours = chunked(query, key, value, None if bias is None else bias.to(torch.bfloat16))
    assert ours.shape == query.shape
    assert float((ours - exact).norm() / exact.norm()) < 0.01
    assert ours.transpose(1, 2).is_contiguous()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("biased", [False, True])
def test_every_dtype_is_near_the_formula(dtype: torch.dtype, biased: bool) -> None:
    query, key, value = (tensor.to(dtype) for tensor in inputs(2, 2, 70, 30))
    bias = padding(2, 30) if biased else None
    exact, ours = formula(query, key, value, bias), attention(query, key, value, bias)
    assert ours.dtype == dtype
    assert float((ours - exact).norm() / exact.norm()) < (0.01 if dtype == torch.bfloat16 else 1e-5)


def test_the_same_again_and_each_row_by_itself() -> None:
    query, key, value = inputs(2, 4, 300, 300)
    once = attention(query, key, value)
    assert torch.equal(once, attention(query, key, value))
    assert torch.equal(once[1:], attention(query[1:], key[1:], value[1:]))


def test_large_logits_do_not_overflow() -> None:
    query, key, value = inputs(1, 1, 20, 20)
    assert attention(query * 300, key * 300, value).isfinite().all()


def test_training_goes_through_torch() -> None:
    query, key, value = (tensor.detach().requires_grad_() for tensor in inputs(1, 2, 10, 10))
    with torch.enable_grad():
        ours = attention(query, key, value)
        assert torch.equal(ours, F.scaled_dot_product_attention(query, key, value))
        ours.sum().backward()
    assert query.grad is not None
