"""The norm in pieces equals the norm written out."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tests.wan.conftest import relative_error
from wanrun.wan.norm import ChannelNorm, activate


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.bfloat16, 6e-3)])
@pytest.mark.parametrize("shape", [(1, 24, 3, 5, 7), (2, 96, 2, 70, 40), (1, 16, 1, 1, 1)])
def test_pieces_equal_the_definition(
    shape: tuple[int, int, int, int, int], dtype: torch.dtype, bound: float
) -> None:
    norm = ChannelNorm(shape[1], 3)
    norm.gamma.copy_(torch.rand_like(norm.gamma) + 0.5)
    x = torch.randn(shape).to(dtype).contiguous(memory_format=torch.channels_last_3d)
    before = x.clone()
    expected = F.silu(F.normalize(x.float(), dim=1) * shape[1] ** 0.5 * norm.gamma)
    with torch.no_grad():
        fast = norm.activated(x)
    with torch.enable_grad():
        plain = norm.activated(x)
    assert fast.dtype == plain.dtype == dtype
    assert torch.equal(x, before)
    assert relative_error(fast.float(), expected) <= bound
    assert relative_error(plain.detach().float(), expected) <= bound


def test_a_vector_of_zeros_stays_zero() -> None:
    target = torch.ones(1, 2, 3, 16)
    activate(torch.zeros(1, 2, 3, 16), torch.ones(16), target)
    assert not target.any()
