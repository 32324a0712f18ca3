"""A causal 3×3×3 convolution with the norm before it, by two thirds of the multiplications, for the CPU.

Pairs of frames are convolved in time by Winograd's F(2, 3) (Lavin and Gray, 2016, §4.1): of four frames
d₀…d₃ and the kernel's taps g₀…g₂ in time

    m₁ = (d₀ − d₂)·g₀    m₂ = (d₁ + d₂)·(g₀ + g₁ + g₂)/2
    m₄ = (d₁ − d₃)·g₂    m₃ = (d₂ − d₁)·(g₀ − g₁ + g₂)/2

give the two outputs m₁ + m₂ + m₃ and m₂ − m₃ − m₄, where · is a 3×3 convolution in space: four for two frames
instead of six. All of it, norm and activation too, is done strip by strip of the picture, so that only the
input and the output are ever whole. On one Zen 4 core, bf16: 1.35 times as fast as torch's conv3d with 96
channels and 1.46 times with 192.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from wanrun.wan.norm import activate

#: About how much of the input one strip takes.
_STRIP_BYTES = 4 << 20
#: With fewer channels on either side the sums cost more than the multiplications that they save. Not in fp32,
#: where torch's conv3d copies its input once per tap: gigabytes for the decoder's last layer.
_FEWEST_CHANNELS = 16


def suits(x: Tensor, weight: Tensor) -> bool:
    """Whether ``convolve`` can and should do it: for pairs of frames of one clip on the CPU."""
    return (
        x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and x.shape[0] == 1
        and x.shape[2] > 0
        and x.shape[2] % 2 == 0
        and weight.shape[2:] == (3, 3, 3)
        and (min(weight.shape[:2]) >= _FEWEST_CHANNELS or x.dtype == torch.float32)
    )


def convolve(
    x: Tensor, scale: Tensor, weight: Tensor, bias: Tensor, history: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The convolution of SiLU of the normalised ``x``, and the next call's history.

    ``x`` is (1, channels, frames, height, width). ``history`` holds the two activated frames before it, laid
    out alike; None stands for zeros.
    """
    source = x[0].permute(1, 2, 3, 0)  # (frames, height, width, channels)
    frames, height, width, channels = source.shape
    before = None if history is None else history[0].permute(1, 2, 3, 0)
    kernels = _kernels(weight)
    out = x.new_empty(frames, height, width, weight.shape[0])
    kept = x.new_empty(2, height, width, channels)
    rows = max(1, _STRIP_BYTES // (frames * width * channels * x.element_size()))
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        above, below = max(top - 1, 0), min(bottom + 1, height)
        # one row more on either side; zeros where the picture ends
        strip = x.new_zeros(2 + frames, bottom - top + 2, width, channels)
        seen = strip[:, above - top + 1 : below - top + 1]
        if before is not None:
            seen[:2] = before[:, above:below]
        activate(source[:, above:below], scale, seen[2:])
        kept[:, top:bottom] = strip[-2:, 1:-1]
        _convolve_pairs(strip, kernels, bias, out[:, top:bottom])
    return out.permute(3, 0, 1, 2)[None], kept.permute(3, 0, 1, 2)[None]


def _kernels(weight: Tensor) -> list[Tensor]:
    """The four 3×3 kernels that the sums of frames are convolved with."""
    first, second, third = weight.float().unbind(2)
    ends = first + third
    kernels = (first, (ends + second) / 2, (ends - second) / 2, third)
    return [kernel.to(weight.dtype).contiguous(memory_format=torch.channels_last) for kernel in kernels]


def _convolve_pairs(strip: Tensor, kernels: list[Tensor], bias: Tensor, out: Tensor) -> None:
    """``out`` (frames, rows, width, channels) of ``strip`` with two frames more in front, two rows around."""
    d0, d1, d2, d3 = strip[:-2:2], strip[1:-1:2], strip[2::2], strip[3::2]
    both, change = _conv2d(d1 + d2, kernels[1], bias), _conv2d(d2 - d1, kernels[2])
    torch.add(_conv2d(d0 - d2, kernels[0]), both + change, out=out[::2])
    torch.sub(both.sub_(change), _conv2d(d1 - d3, kernels[3]), out=out[1::2])


def _conv2d(frames: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    """Of frames (frames, rows, width, channels) that bring the rows around them."""
    out = F.conv2d(frames.permute(0, 3, 1, 2), kernel, bias, padding=(0, 1))
    return out.permute(0, 2, 3, 1)
