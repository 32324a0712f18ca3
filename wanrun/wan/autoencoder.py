"""Wan's two VAEs assembled, with the latents' statistics: encode frames, decode latents, whole or streamed.

2.1 (Wan2.1 wan/modules/vae2_1.py): 16 channels, strides 4×8×8, used by the 2.1 models and both A14B.
2.2 (Wan2.2 wan/modules/vae2_2.py): 48 channels, strides 4×16×16, used by TI2V-5B; it works on 2×2 pixel
patches and adds parameter-free shortcuts around each change of resolution.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, pairwise

import torch
from torch import Tensor, nn

from wanrun.errors import FormatError
from wanrun.wan.statistics import MEAN_16, MEAN_48, STD_16, STD_48
from wanrun.wan.vae import (
    CausalConv3d,
    Downsample,
    OutputHead,
    Past,
    ResidualBlock,
    Upsample,
    middle,
    run,
)

_MULTIPLIERS = (1, 2, 4, 4)
_TEMPORAL = (False, True, True)  # encoder stages that halve time; the decoder's are these backwards
TEMPORAL_STRIDE = 4


@dataclass(frozen=True, slots=True)
class VAEConfig:
    """Widths of one VAE; ``patch`` is 1 for version 2.1 and 2 for version 2.2."""

    encoder_width: int
    decoder_width: int
    latent_channels: int
    patch: int

    @property
    def stride(self) -> int:
        """Pixels per latent position, in height and width."""
        return 8 * self.patch


def vae_config_from_shapes(shapes: Mapping[str, tuple[int, ...]]) -> VAEConfig:
    """Widths from tensor shapes under their original names; raises FormatError when it is no Wan VAE."""
    try:
        first, last, latent = (
            shapes[name] for name in ("encoder.conv1.weight", "decoder.head.0.gamma", "conv2.weight")
        )
        return VAEConfig(first[0], last[0], latent[0], patch={3: 1, 12: 2}[first[1]])
    except (KeyError, IndexError) as error:
        raise FormatError(f"not a Wan VAE: {error} is missing or has an unknown shape") from error


class MergeShortcut(nn.Module):
    """Averages groups of neighbouring pixels and channels: the way around a 2.2 encoder stage."""

    def __init__(self, in_channels: int, out_channels: int, time: int, space: int) -> None:
        super().__init__()
        self.time, self.space, self.out_channels = time, space, out_channels

    def forward(self, x: Tensor) -> Tensor:
        missing = -x.shape[2] % self.time
        x = torch.cat([x.new_zeros(*x.shape[:2], missing, *x.shape[3:]), x], dim=2)
        folded = x.unflatten(4, (-1, self.space)).unflatten(3, (-1, self.space)).unflatten(2, (-1, self.time))
        # (batch, channels, frames, time, height, space, width, space)
        channels = folded.permute(0, 1, 3, 5, 7, 2, 4, 6).flatten(1, 4)
        out: Tensor = channels.unflatten(1, (self.out_channels, -1)).mean(dim=2)
        return out


class RepeatShortcut(nn.Module):
    """Repeats pixels and channels: the way around a 2.2 decoder stage."""

    def __init__(self, in_channels: int, out_channels: int, time: int, space: int) -> None:
        super().__init__()
        self.time, self.space = time, space
        self.repeats = out_channels * time * space * space // in_channels

    def forward(self, x: Tensor, first: bool) -> Tensor:
        unfolded = x.repeat_interleave(self.repeats, dim=1).unflatten(
            1, (-1, self.time, self.space, self.space)
        )
        # (batch, channels, time, space, space, frames, height, width)
        out: Tensor = unfolded.permute(0, 1, 5, 2, 6, 3, 7, 4).flatten(6, 7).flatten(4, 5).flatten(2, 3)
        return out[:, :, self.time - 1 :] if first else out


class DownStage(nn.Module):
    """A 2.2 encoder stage: blocks and a downsampling, added to its shortcut."""

    def __init__(self, in_channels: int, out_channels: int, temporal: bool, spatial: bool) -> None:
        super().__init__()
        self.downsamples = nn.ModuleList(
            [ResidualBlock(in_channels, out_channels), ResidualBlock(out_channels, out_channels)]
        )
        if spatial:
            self.downsamples.append(Downsample(out_channels, temporal))
        self.shortcut = MergeShortcut(in_channels, out_channels, 1 + temporal, 1 + spatial)

    def stream(self, x: Tensor, past: Past) -> Tensor:
        around: Tensor = self.shortcut(x)
        return run(self.downsamples, x, past).add_(around)


class UpStage(nn.Module):
    """A 2.2 decoder stage: blocks and an upsampling, added to its shortcut."""

    def __init__(self, in_channels: int, out_channels: int, temporal: bool, spatial: bool) -> None:
        super().__init__()
        self.upsamples = nn.ModuleList(
            ResidualBlock(in_channels if index == 0 else out_channels, out_channels) for index in range(3)
        )
        self.shortcut: RepeatShortcut | None = None
        if spatial:
            self.upsamples.append(Upsample(out_channels, out_channels, temporal))
            self.shortcut = RepeatShortcut(in_channels, out_channels, 1 + temporal, 2)

    def stream(self, x: Tensor, past: Past) -> Tensor:
        first = self not in past
        past[self] = x.new_empty(0)  # only marks that the clip has begun
        out = run(self.upsamples, x, past)
        return out if self.shortcut is None else out.add_(self.shortcut(x, first))


class Encoder(nn.Module):
    """Pixels to the posterior's mean and log-variance."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        widths = [config.encoder_width * m for m in (1, *_MULTIPLIERS)]
        self.conv1 = CausalConv3d(3 * config.patch**2, widths[0], 3)
        self.downsamples = nn.ModuleList()
        for stage, (before, after) in enumerate(pairwise(widths)):
            spatial = stage < len(_TEMPORAL)
            temporal = spatial and _TEMPORAL[stage]
            if config.patch == 2:
                self.downsamples.append(DownStage(before, after, temporal, spatial))
            else:
                self.downsamples += [ResidualBlock(before, after), ResidualBlock(after, after)]
                if spatial:
                    self.downsamples.append(Downsample(after, temporal))
        self.middle = middle(widths[-1])
        self.head = OutputHead(widths[-1], 2 * config.latent_channels)

    def stream(self, x: Tensor, past: Past) -> Tensor:
        x = run(self.downsamples, self.conv1.stream(x, past), past)
        return self.head.stream(run(self.middle, x, past), past)


class Decoder(nn.Module):
    """Latents to pixels."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        widths = [config.decoder_width * m for m in (_MULTIPLIERS[-1], *reversed(_MULTIPLIERS))]
        self.conv1 = CausalConv3d(config.latent_channels, widths[0], 3)
        self.middle = middle(widths[0])
        self.upsamples = nn.ModuleList()
        for stage, (before, after) in enumerate(pairwise(widths)):
            spatial = stage < len(_TEMPORAL)
            temporal = spatial and _TEMPORAL[::-1][stage]
            if config.patch == 2:
                self.upsamples.append(UpStage(before, after, temporal, spatial))
                continue
            # version 2.1 halves the channels with each upsampling
            first = before if stage == 0 else before // 2
            self.upsamples += [
                ResidualBlock(first, after),
                ResidualBlock(after, after),
                ResidualBlock(after, after),
            ]
            if spatial:
                self.upsamples.append(Upsample(after, after // 2, temporal))
        self.head = OutputHead(widths[-1], 3 * config.patch**2)

    def stream(self, z: Tensor, past: Past) -> Tensor:
        x = run(self.middle, self.conv1.stream(z, past), past)
        return self.head.stream(run(self.upsamples, x, past), past)


class WanVAE(nn.Module):
    """Both halves with the normalisation that the diffusion transformer works in."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.conv1 = CausalConv3d(2 * config.latent_channels, 2 * config.latent_channels, 1)
        self.conv2 = CausalConv3d(config.latent_channels, config.latent_channels, 1)
        mean, std = self.statistics(config)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    @staticmethod
    def statistics(config: VAEConfig) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each latent channel, (1, channels, 1, 1, 1)."""
        known = (MEAN_48, STD_48) if config.patch == 2 else (MEAN_16, STD_16)
        if len(known[0]) != config.latent_channels:
            raise FormatError(f"a Wan VAE has {len(known[0])} latent channels, not {config.latent_channels}")
        mean, std = (torch.tensor(values).view(1, -1, 1, 1, 1) for values in known)
        return mean, std

    def encode(self, pixels: Tensor, past: Past) -> Tensor:
        """Normalised latents (batch, channels, frames, height, width) of the clip's next pixels.

        ``pixels`` (batch, 3, frames, height, width) in -1..1: 1 + 4k frames at a clip's start, else 4k. The
        posterior's mean is taken.
        """
        patches = _laid_out(_to_patches(pixels, self.config.patch))
        moments = self.conv1(self.encoder.stream(patches, past))
        mean: Tensor = moments.chunk(2, dim=1)[0]
        return (mean.float() - self.mean) / self.std

    def decode(self, latents: Tensor, past: Past) -> Tensor:
        """Pixels (batch, 3, frames, height, width) float32 in about -1..1 of the clip's next latents.

        The clip's first latent frame gives one frame, every other gives four.
        """
        z = (latents.float() * self.std + self.mean).to(self.conv2.weight.dtype)
        return _to_pixels(self.decoder.stream(self.conv2(_laid_out(z)), past), self.config.patch).float()

    def encode_stream(self, frames: Iterable[Tensor]) -> Tensor:
        """Normalised latents (channels, frames, height, width) of (3, height, width) frames in -1..1."""
        clip, past = iter(frames), Past()
        parts: list[Tensor] = []
        while chunk := list(islice(clip, TEMPORAL_STRIDE if parts else 1)):
            parts.append(self.encode(torch.stack(chunk, dim=1)[None].to(self.conv1.weight.dtype), past))
        return torch.cat(parts, dim=2)[0]

    def decode_stream(self, latents: Tensor) -> Iterator[Tensor]:
        """(3, height, width) float32 frames in -1..1 of (channels, frames, height, width), streamed."""
        past = Past()
        for latent in latents.unbind(1):
            yield from self.decode(latent[None, :, None], past)[0].clamp(-1, 1).unbind(1)


def _laid_out(x: Tensor) -> Tensor:
    """Channels innermost where that is faster: oneDNN and cuDNN convolve it best, norms read it in order."""
    fast = x.device.type in ("cpu", "cuda")
    return x.contiguous(memory_format=torch.channels_last_3d) if fast else x


def _to_patches(pixels: Tensor, patch: int) -> Tensor:
    """Fold patch×patch pixels into channels, the horizontal offset slower than the vertical one."""
    if patch == 1:
        return pixels
    folded: Tensor = pixels.unflatten(4, (-1, patch)).unflatten(3, (-1, patch))  # (b, c, f, h, y, w, x)
    return folded.permute(0, 1, 6, 4, 2, 3, 5).flatten(1, 3)


def _to_pixels(patches: Tensor, patch: int) -> Tensor:
    """The inverse of ``_to_patches``."""
    if patch == 1:
        return patches
    unfolded: Tensor = patches.unflatten(1, (-1, patch, patch))  # (b, c, x, y, f, h, w)
    return unfolded.permute(0, 1, 4, 5, 3, 6, 2).flatten(5, 6).flatten(3, 4)
