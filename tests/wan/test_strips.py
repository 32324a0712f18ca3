"""The convolution in strips and pairs of frames equals torch's, whatever the strips."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.wan.conftest import relative_error
from wanrun.wan import strips


def _plain(x: Tensor, scale: Tensor, weight: Tensor, bias: Tensor, history: Tensor | None) -> Tensor:
    active = F.silu(F.normalize(x, dim=1) * scale)
    before = torch.zeros_like(active[:, :, :2]) if history is None else history
    return F.conv3d(torch.cat([before, active], dim=2), weight, bias, padding=(0, 1, 1))


@pytest.mark.parametrize("strip_bytes", [1, 20_000, 1 << 30], ids=["a row", "some rows", "whole"])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize(("frames", "height", "width"), [(2, 9, 6), (4, 1, 5), (6, 13, 1)])
def test_two_calls_equal_conv3d(
    frames: int,
    height: int,
    width: int,
    dtype: torch.dtype,
    bound: float,
    strip_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(strips, "_STRIP_BYTES", strip_bytes)
    scale, bias = torch.rand(16, 1, 1, 1) + 0.5, torch.randn(24)
    weight = torch.randn(24, 16, 3, 3, 3) / 20
    history: Tensor | None = None
    expected_history: Tensor | None = None
    for _ in range(2):
        x = torch.randn(1, 16, frames, height, width)
        ours = x.to(dtype).contiguous(memory_format=torch.channels_last_3d)
        assert strips.suits(ours, weight)
        out, history = strips.convolve(ours, scale, weight.to(dtype), bias.to(dtype), history)
        expected = _plain(x, scale, weight, bias, expected_history)
        expected_history = F.silu(F.normalize(x, dim=1) * scale)[:, :, -2:]
        assert out.shape == expected.shape
        assert relative_error(out.float(), expected) <= bound
        assert relative_error(history.float(), expected_history) <= bound


def test_what_it_does_not_suit_is_left_to_torch() -> None:
    x, weight = torch.zeros(1, 16, 2, 4, 4), torch.zeros(16, 16, 3, 3, 3)
    assert strips.suits(x, weight)
    assert not strips.suits(x[:, :, :1], weight)
    assert not strips.suits(x.expand(2, -1, -1, -1, -1), weight)
    assert strips.suits(x, weight[:3])
    assert not strips.suits(x.bfloat16(), weight[:3])
    assert not strips.suits(x, weight[:, :, :, :1, :1])
    with torch.enable_grad():
        assert not strips.suits(x, weight)
