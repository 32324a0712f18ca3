"""What the planner knows of a model: widths, counts and bytes of its parts, as plain numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

#: Bytes of one element in each precision.
ITEM_BYTES = {"fp32": 4, "bf16": 2}


def arithmetic(precision: str) -> str:
    """What everything but 8-bit products is computed in: ``fp32`` or ``bf16``."""
    return "bf16" if precision == "int8" else precision


@dataclass(frozen=True, slots=True)
class Stored:
    """The tensors of one file, in bytes.

    ``copied_bytes`` is what stands in memory beside the file in the precision that was asked for,
    ``kept_bytes`` what is used where it lies in the mapped file.
    """

    file_bytes: int
    copied_bytes: int = 0
    kept_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Transformer:
    """One expert. ``matrices`` counts its packed ones by type, ``largest_bytes`` is the biggest unpacked.

    ``adapter_elements`` are the numbers of its adapters' matrices, whose bytes are among the ``stored``;
    ``blocks_bytes`` is what all blocks take as they are held.
    """

    role: str
    width: int
    ffn_width: int
    layers: int
    out_channels: int
    stored: Stored
    packed: Mapping[str, int] = field(default_factory=dict)
    matrices: int = 0
    largest_bytes: int = 0
    adapter_elements: int = 0
    blocks_bytes: int = 0

    @property
    def held_bytes(self) -> int:
        """What all tensors take where nothing stays in a mapped file."""
        return self.stored.copied_bytes + self.stored.kept_bytes


@dataclass(frozen=True, slots=True)
class TextEncoder:
    """The UMT5 encoder. ``layer_elements`` counts the blocks' weights, without the table of tokens."""

    width: int
    ffn_width: int
    heads: int
    vocabulary: int
    kind: str
    layer_elements: int
    stored: Stored


@dataclass(frozen=True, slots=True)
class Autoencoder:
    """The decoder of a VAE of base ``width``; ``patch`` is 1 for Wan2.1's and 2 for Wan2.2's."""

    width: int
    latent_channels: int
    patch: int
    stored: Stored


@dataclass(frozen=True, slots=True)
class TinyAutoencoder:
    """A tiny decoder; ``patch`` as for the VAE."""

    latent_channels: int
    patch: int
    stored: Stored


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a bundle that a run opens, one after the other."""

    encoder: TextEncoder
    experts: tuple[Transformer, ...]
    decoder: Autoencoder | TinyAutoencoder


@dataclass(frozen=True, slots=True)
class Job:
    """What a request asks of the parts.

    ``latent`` is (channels, frames, height, width); ``evaluations`` are the forwards of each expert in order;
    ``prompts`` are those to be encoded, none when they are cached. A step cache keeps the hidden states of
    ``kept_branches`` branches of guidance.
    """

    latent: tuple[int, int, int, int]
    frames: int
    width: int
    height: int
    evaluations: tuple[int, ...]
    prompts: int
    prompt_tokens: int
    precision: str
    kept_branches: int = 0

    @property
    def arithmetic(self) -> str:
        return arithmetic(self.precision)

    @property
    def tokens(self) -> int:
        """Positions that the transformer attends over: 2×2 latents each."""
        _, frames, height, width = self.latent
        return frames * (height // 2) * (width // 2)
