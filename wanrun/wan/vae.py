"""The parts of Wan's causal video VAE, each carrying its past from chunk to chunk.

Wan2.1 wan/modules/vae2_1.py and Wan2.2 wan/modules/vae2_2.py. A clip may be fed whole or in chunks: what a
layer must remember of earlier frames lies in a ``Past``, so memory does not grow with the number of frames
and both ways give the same result. The first frame of a clip stands alone: it is neither doubled nor merged
in time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wanrun.wan import strips
from wanrun.wan.norm import ChannelNorm
from wanrun.wan.upsample import DoubledConv

#: What each layer keeps between the chunks of one clip; empty at the clip's start.
Past = dict[nn.Module, Tensor]


class CausalConv3d(nn.Conv3d):
    """Convolution that sees the present and earlier frames: zeros stand before the clip's first frame."""

    def __init__(self, in_channels: int, out_channels: int, kernel: tuple[int, int, int] | int) -> None:
        size = (kernel,) * 3 if isinstance(kernel, int) else kernel
        super().__init__(in_channels, out_channels, size, padding=(0, size[1] // 2, size[2] // 2))

    def stream(self, x: Tensor, past: Past) -> Tensor:
        """``x`` (batch, channels, frames, height, width) continues the clip that ``past`` remembers."""
        before = self.kernel_size[0] - 1
        if not before:
            return F.conv3d(x, self.weight, self.bias)
        history = past.get(self)
        frames = F.pad(x, (0, 0, 0, 0, before, 0)) if history is None else torch.cat([history, x], dim=2)
        past[self] = frames[:, :, -before:].clone()
        if history is None and x.shape[2] == 1:
            # the other taps would only multiply zeros; in fp32 torch's conv3d would hold a copy per tap
            sides = self.kernel_size[1] // 2, self.kernel_size[2] // 2
            return F.conv2d(x[:, :, 0], self.weight[:, :, -1], self.bias, padding=sides)[:, :, None]
        return F.conv3d(frames, self.weight, self.bias, padding=self.padding)


class ResidualBlock(nn.Module):
    """Two normalised convolutions around a skip."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        # the checkpoint counts activations and dropout too: 0, 2, 3 and 6 are what has weights
        self.residual = nn.ModuleDict(
            {
                "0": ChannelNorm(in_channels, 3),
                "2": CausalConv3d(in_channels, out_channels, 3),
                "3": ChannelNorm(out_channels, 3),
                "6": CausalConv3d(out_channels, out_channels, 3),
            }
        )
        self.shortcut = CausalConv3d(in_channels, out_channels, 1) if in_channels != out_channels else None

    def stream(self, x: Tensor, past: Past) -> Tensor:
        part = self.residual
        h = _activated_conv(part["0"], part["2"], x, past)
        h = _activated_conv(part["3"], part["6"], h, past)
        return h.add_(x if self.shortcut is None else self.shortcut(x))


def _activated_conv(norm: nn.Module, conv: nn.Module, x: Tensor, past: Past) -> Tensor:
    """Norm, activation and convolution of the clip's next ``x``."""
    assert isinstance(norm, ChannelNorm) and isinstance(conv, CausalConv3d) and conv.bias is not None
    if not strips.suits(x, conv.weight):
        return conv.stream(norm.activated(x), past)
    out, past[conv] = strips.convolve(x, norm.scale, conv.weight, conv.bias, past.get(conv))
    return out


class AttentionBlock(nn.Module):
    """Single-head attention over the positions of each frame."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels, 2)
        self.to_qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def stream(self, x: Tensor, past: Past) -> Tensor:
        frames = x.transpose(1, 2).flatten(0, 1)  # (batch·frames, channels, height, width)
        rows = self.norm(frames).flatten(2).transpose(1, 2)  # (batch·frames, positions, channels)
        # one head, channels innermost: any other way torch would hold the scores of all pairs at once
        qkv = F.linear(rows, self.to_qkv.weight.flatten(1), self.to_qkv.bias)[:, None]
        query, key, value = qkv.chunk(3, dim=-1)
        mixed = F.scaled_dot_product_attention(query, key, value)[:, 0]
        out = F.linear(mixed, self.proj.weight.flatten(1), self.proj.bias)
        pictures = out.transpose(1, 2).unflatten(2, frames.shape[2:])
        added: Tensor = pictures.unflatten(0, (x.shape[0], -1)).transpose(1, 2)
        return x + added


def _per_frame(layer: nn.Module, x: Tensor) -> Tensor:
    """A 2-D layer applied to every frame of (batch, channels, frames, height, width)."""
    out: Tensor = layer(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (x.shape[0], -1))
    return out.transpose(1, 2)


class Downsample(nn.Module):
    """Halves height and width, and with ``temporal`` merges pairs of frames after the first."""

    def __init__(self, channels: int, temporal: bool) -> None:
        super().__init__()
        self.resample = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(channels, channels, 3, stride=2))
        self.time_conv = nn.Conv3d(channels, channels, (3, 1, 1), stride=(2, 1, 1)) if temporal else None

    def stream(self, x: Tensor, past: Past) -> Tensor:
        x = _per_frame(self.resample, x)
        if self.time_conv is None:
            return x
        if self not in past:
            past[self], rest = x[:, :, :1].clone(), x[:, :, 1:]
            return torch.cat([x[:, :, :1], self._merge(rest, past)], dim=2)
        return self._merge(x, past)

    def _merge(self, x: Tensor, past: Past) -> Tensor:
        if not x.shape[2]:
            return x
        assert self.time_conv is not None
        merged: Tensor = self.time_conv(torch.cat([past[self], x], dim=2))
        past[self] = x[:, :, -1:].clone()
        return merged


class Upsample(nn.Module):
    """Doubles height and width, and with ``temporal`` makes two of every frame after the first."""

    def __init__(self, in_channels: int, out_channels: int, temporal: bool) -> None:
        super().__init__()
        # the checkpoint counts the doubling too
        self.resample = nn.Sequential(nn.Identity(), DoubledConv(in_channels, out_channels))
        self.time_conv = CausalConv3d(in_channels, 2 * in_channels, (3, 1, 1)) if temporal else None

    def stream(self, x: Tensor, past: Past) -> Tensor:
        if self.time_conv is not None:
            if self not in past:
                past[self] = x.new_empty(0)  # only marks that the first frame has gone through
                if x.shape[2] > 1:
                    x = torch.cat([x[:, :, :1], self._double(x[:, :, 1:], past)], dim=2)
            else:
                x = self._double(x, past)
        return _per_frame(self.resample, x)

    def _double(self, x: Tensor, past: Past) -> Tensor:
        assert self.time_conv is not None
        # (batch, frames, height, width, 2, channels): the channels stay innermost
        pairs = self.time_conv.stream(x, past).movedim(1, -1).unflatten(-1, (2, -1))
        doubled: Tensor = pairs.movedim(-2, 2).flatten(1, 2).movedim(-1, 1)
        return doubled


Layer = CausalConv3d | ResidualBlock | AttentionBlock | Downsample | Upsample


def run(layers: nn.ModuleList | list[Layer], x: Tensor, past: Past) -> Tensor:
    """Pass ``x`` through layers in order."""
    for layer in layers:
        x = layer.stream(x, past)  # type: ignore[operator]  # ModuleList forgets what it holds
    return x


def middle(channels: int) -> nn.ModuleList:
    """The bottleneck: residual, attention, residual."""
    return nn.ModuleList(
        [ResidualBlock(channels, channels), AttentionBlock(channels), ResidualBlock(channels, channels)]
    )


class OutputHead(nn.ModuleDict):
    """Norm, activation and the last convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        # numbered as in the checkpoint, where 1 is the activation
        super().__init__({"0": ChannelNorm(in_channels, 3), "2": CausalConv3d(in_channels, out_channels, 3)})

    def stream(self, x: Tensor, past: Past) -> Tensor:
        return _activated_conv(self["0"], self["2"], x, past)
