"""The tiny autoencoders for Wan latents: a hundredth of the VAE's work for previews and weak machines.

TAEHV by Ollin Boer Bohan (github.com/madebyollin/taehv), taew2_1 for 16 latent channels and taew2_2 for 48.
It works on the transformer's normalised latents and on RGB in 0..1, one latent frame at a time: each memory
block sees its own input one step earlier.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wanrun.errors import FormatError
from wanrun.wan.upsample import DoubledConv

#: What each memory block keeps between the chunks of one clip.
Memory = dict[nn.Module, Tensor]

_DECODER_WIDTHS = (256, 128, 64, 64)
_TIME_STRIDES = (1, 2, 2)  # of the decoder's stages; the encoder halves time in its first two
_WARM_UP_FRAMES = 3  # the decoder's first latent frame gives four frames, of which the clip has the last


@dataclass(frozen=True, slots=True)
class TinyConfig:
    """``patch`` is 1 for taew2_1 and 2 for taew2_2."""

    latent_channels: int
    patch: int


def tiny_config_from_shapes(shapes: Mapping[str, tuple[int, ...]]) -> TinyConfig:
    """Dimensions from tensor shapes; raises FormatError when it is no such autoencoder."""
    try:
        return TinyConfig(shapes["decoder.1.weight"][1], {3: 1, 12: 2}[shapes["encoder.0.weight"][1]])
    except (KeyError, IndexError) as error:
        raise FormatError(
            f"not a tiny Wan autoencoder: {error} is missing or has an unknown shape"
        ) from error


def _conv3(in_channels: int, out_channels: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=bias)


class SoftClamp(nn.Module):
    """Keeps latents within -3..3 smoothly."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


class MemoryBlock(nn.Module):
    """Residual block over the present frame and the one before it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            _conv3(2 * channels, channels),
            nn.ReLU(inplace=True),
            _conv3(channels, channels),
            nn.ReLU(inplace=True),
            _conv3(channels, channels),
        )

    def stream(self, x: Tensor, memory: Memory) -> Tensor:
        """``x`` (frames, channels, height, width), a chunk in order."""
        last = memory.get(self)
        before = torch.cat([torch.zeros_like(x[:1]) if last is None else last, x[:-1]])
        memory[self] = x[-1:].clone()
        change: Tensor = self.conv(torch.cat([x, before], dim=1))
        return F.relu(change.add_(x), inplace=True)


class TimePool(nn.Module):
    """Merges ``stride`` frames into one."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(channels * stride, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(torch.cat([x[index :: self.stride] for index in range(self.stride)], dim=1))
        return out


class TimeGrow(nn.Module):
    """Makes ``stride`` frames of one, position by position: so it stands before the doubling, not after."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(channels, channels * stride, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # (frames, height, width, stride, channels): the channels stay innermost
        grown = self.conv(x).movedim(1, -1).unflatten(-1, (self.stride, -1))
        out: Tensor = grown.movedim(-2, 1).flatten(0, 1).movedim(-1, 1)
        return out


def _encoder(config: TinyConfig) -> nn.ModuleList:
    layers: list[nn.Module] = [_conv3(3 * config.patch**2, 64), nn.ReLU(inplace=True)]
    for stride in reversed(_TIME_STRIDES):
        layers += [
            TimePool(64, stride),
            _conv3(64, 64, stride=2, bias=False),
            *(MemoryBlock(64) for _ in range(3)),
        ]
    return nn.ModuleList([*layers, _conv3(64, config.latent_channels)])


def _decoder(config: TinyConfig) -> nn.ModuleList:
    layers: list[nn.Module] = [
        SoftClamp(),
        _conv3(config.latent_channels, _DECODER_WIDTHS[0]),
        nn.ReLU(inplace=True),
    ]
    for stage, stride in enumerate(_TIME_STRIDES):
        width, after = _DECODER_WIDTHS[stage : stage + 2]
        layers += [MemoryBlock(width) for _ in range(3)]
        # the checkpoint counts the doubling first
        layers += [nn.Identity(), TimeGrow(width, stride), DoubledConv(width, after, bias=False)]
    return nn.ModuleList([*layers, nn.ReLU(inplace=True), _conv3(_DECODER_WIDTHS[-1], 3 * config.patch**2)])


def _run(layers: nn.ModuleList, x: Tensor, memory: Memory) -> Tensor:
    if x.device.type in ("cpu", "cuda"):  # what oneDNN and cuDNN convolve fastest
        x = x.contiguous(memory_format=torch.channels_last)
    for layer in layers:
        x = layer.stream(x, memory) if isinstance(layer, MemoryBlock) else layer(x)
    return x


class TinyVAE(nn.Module):
    """Encoder and decoder; layers are numbered as in the checkpoints."""

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = _encoder(config), _decoder(config)

    def decode_stream(self, latents: Tensor) -> Iterator[Tensor]:
        """(3, height, width) float32 frames in 0..1 of (channels, frames, height, width), streamed."""
        memory: Memory = {}
        for index, latent in enumerate(latents.unbind(1)):
            pixels = _run(self.decoder, latent[None].to(self.decoder[1].weight.dtype), memory)  # type: ignore[arg-type]
            if self.config.patch > 1:
                pixels = F.pixel_shuffle(pixels, self.config.patch)
            yield from pixels.float().clamp(0, 1)[_WARM_UP_FRAMES if index == 0 else 0 :]

    def encode_stream(self, frames: Iterable[Tensor]) -> Tensor:
        """Latents (channels, frames, height, width) of (3, height, width) frames in 0..1, four at a time.

        The clip's end is filled up with its last frame.
        """
        clip, memory, parts = iter(frames), Memory(), []
        while chunk := list(islice(clip, 4)):
            chunk += [chunk[-1]] * (4 - len(chunk))
            pixels = torch.stack(chunk).to(self.encoder[0].weight.dtype)  # type: ignore[arg-type]
            if self.config.patch > 1:
                pixels = F.pixel_unshuffle(pixels, self.config.patch)
            parts.append(_run(self.encoder, pixels, memory))
        return torch.cat(parts).transpose(0, 1).float()
