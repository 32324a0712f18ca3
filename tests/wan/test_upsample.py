"""The convolution that skips the doubling equals doubling and convolving."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tests.wan.conftest import relative_error
from wanrun.wan.upsample import DoubledConv


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 8, 1, 1), (3, 8, 5, 7)])
def test_folded_taps_equal_the_doubled_picture(
    shape: tuple[int, int, int, int], bias: bool, dtype: torch.dtype, bound: float
) -> None:
    conv = DoubledConv(8, 6, bias=bias)
    frames = torch.randn(shape)
    doubled = frames.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    expected = F.conv2d(doubled, conv.weight, conv.bias, padding=1)
    fast = conv.to(dtype)(frames.to(dtype))
    with torch.enable_grad():
        plain = conv(frames.to(dtype))
    assert fast.shape == plain.shape == expected.shape
    assert relative_error(fast.float(), expected) <= bound
    assert relative_error(plain.detach().float(), expected) <= bound
