"""A diffusion transformer's dimensions, read from the shapes of its tensors.

Wan2.1 T2V 1.3B and 14B, Wan2.2 T2V-A14B and I2V-A14B (36 input channels) and TI2V-5B (48 channels) are one
architecture and differ in these numbers alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from wanrun.errors import FormatError

#: Shared by every Wan model (Wan2.2, wan/configs/shared_config.py).
HEAD_DIM = 128
FREQUENCY_DIM = 256
TEXT_TOKENS = 512
PATCH = (1, 2, 2)
EPS = 1e-6

_BLOCK = re.compile(r"blocks\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class WanConfig:
    """Widths and counts of one diffusion transformer."""

    width: int
    ffn_width: int
    layers: int
    in_channels: int
    out_channels: int
    text_width: int

    def __post_init__(self) -> None:
        if self.width % HEAD_DIM:
            raise FormatError(f"model width {self.width} is not a multiple of the head size {HEAD_DIM}")
        if self.in_channels < self.out_channels:
            raise FormatError(
                f"{self.in_channels} input channels cannot hold {self.out_channels} latent channels"
            )

    @property
    def heads(self) -> int:
        return self.width // HEAD_DIM

    @property
    def condition_channels(self) -> int:
        """Channels that image-to-video joins to the latents: 20 for I2V-A14B, else 0."""
        return self.in_channels - self.out_channels


def config_from_shapes(shapes: Mapping[str, tuple[int, ...]]) -> WanConfig:
    """Dimensions from tensor shapes under their original names.

    Raises FormatError when a tensor that decides them is missing or has another rank, or when the blocks are
    not numbered without gaps.
    """
    head = _shape(shapes, "head.head.weight", 2)
    patch = _shape(shapes, "patch_embedding.weight", 5)
    text = _shape(shapes, "text_embedding.0.weight", 2)
    ffn = _shape(shapes, "blocks.0.ffn.0.weight", 2)
    indices = {int(match[1]) for match in map(_BLOCK.match, shapes) if match}
    if indices != set(range(len(indices))):
        raise FormatError(f"blocks are numbered {sorted(indices)}: some are missing")
    return WanConfig(
        width=head[1],
        ffn_width=ffn[0],
        layers=len(indices),
        in_channels=patch[1],
        out_channels=head[0] // (PATCH[0] * PATCH[1] * PATCH[2]),
        text_width=text[1],
    )


def _shape(shapes: Mapping[str, tuple[int, ...]], name: str, rank: int) -> tuple[int, ...]:
    shape = shapes.get(name)
    if shape is None:
        raise FormatError(f"not a Wan diffusion model: tensor {name!r} is missing")
    if len(shape) != rank:
        raise FormatError(f"tensor {name!r} has {len(shape)} dimensions {shape}, expected {rank}")
    return shape
