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
        frames = torch.cat(
            [x.new_zeros(*x.shape[:2], before, *x.shape[3:]) if history is None else history, x], 2
        )
        past[self] = frames[:, :, -before:].clone()
        if history is None and x.shape[2] == 1:  # the other taps would only multiply zeros
            return F.conv3d(x, self.weight[:, :, -1:], self.bias, padding=self.padding)
        return F.conv3d(frames, self.weight, self.bias, padding=self.padding)


class ChannelNorm(nn.Module):
    """Each position's channel vector scaled to length √channels, times gamma."""

    def __init__(self, channels: int, spatial_dims: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels, *(1,) * spatial_dims))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        # written out: torch's norm over a strided dimension is several times slower on the CPU
        length = wide.square().sum(1, keepdim=True).clamp_min(1e-24).sqrt()
        scale: Tensor = self.gamma * x.shape[1] ** 0.5
        return (wide / length).to(x.dtype) * scale.to(x.dtype)


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
        h = _conv(part["2"], F.silu(part["0"](x)), past)
        h = _conv(part["6"], F.silu(part["3"](h)), past)
        return h + (x if self.shortcut is None else self.shortcut(x))


def _conv(layer: nn.Module, x: Tensor, past: Past) -> Tensor:
    assert isinstance(layer, CausalConv3d)
    return layer.stream(x, past)


class AttentionBlock(nn.Module):
    """Single-head attention over the positions of each frame."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels, 2)
        self.to_qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def stream(self, x: Tensor, past: Past) -> Tensor:
        frames = x.transpose(1, 2).flatten(0, 1)  # (batch·frames, channels, height, width)
        query, key, value = self.to_qkv(self.norm(frames)).flatten(2).transpose(1, 2).chunk(3, dim=-1)
        mixed = F.scaled_dot_product_attention(query, key, value)
        out = self.proj(mixed.transpose(1, 2).unflatten(2, frames.shape[2:]))
        added: Tensor = out.unflatten(0, (x.shape[0], -1)).transpose(1, 2)
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
        self.resample = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="nearest-exact"),
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
        )
        self.time_conv = CausalConv3d(in_channels, 2 * in_channels, (3, 1, 1)) if temporal else None

    def stream(self, x: Tensor, past: Past) -> Tensor:
        if self.time_conv is not None:
            if self not in past:
                past[self] = x.new_empty(0)  # only marks that the first frame has gone through
                x = torch.cat([x[:, :, :1], self._double(x[:, :, 1:], past)], dim=2)
            else:
                x = self._double(x, past)
        return _per_frame(self.resample, x)

    def _double(self, x: Tensor, past: Past) -> Tensor:
        if not x.shape[2]:
            return x
        assert self.time_conv is not None
        # (batch, 2, channels, frames, height, width)
        pairs: Tensor = self.time_conv.stream(x, past).unflatten(1, (2, -1))
        return pairs.permute(0, 2, 3, 1, 4, 5).flatten(2, 3)


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
        return _conv(self["2"], F.silu(self["0"](x)), past)
