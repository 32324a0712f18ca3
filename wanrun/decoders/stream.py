"""The full and the tiny VAE as Decoders: streamed one latent frame at a time."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from itertools import islice
from logging import getLogger
from pathlib import Path

import torch
from torch import Tensor

from wanrun.decoders.pixels import from_frames, to_frames
from wanrun.decoders.tiles import Decode, tiled
from wanrun.errors import InvalidRequest, OutOfMemoryBudget
from wanrun.gguf.weights import open_weights
from wanrun.types import Frame, Resource
from wanrun.wan.autoencoder import WanVAE
from wanrun.wan.devices import pick_device, pick_dtype
from wanrun.wan.load import load_tiny, load_vae
from wanrun.wan.tiny import TinyVAE

_log = getLogger(__name__)
#: Sides in latent positions of the tiles that are tried when memory runs out, one after the other.
_TILES = (48, 24, 12)
#: What torch, the C++ library and oneDNN say of it. oneDNN tells no reason, but a convolution that it has
#: accepted fails for want of memory for its buffers or its code.
_OUT_OF_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "bad_alloc",
    "could not create a primitive",
    "could not execute a primitive",
)


class StreamDecoder(Resource):
    """A Decoder around either autoencoder; ``low`` is the darkest value of its pixels."""

    def __init__(self, autoencoder: WanVAE | TinyVAE, channels: int, low: float, device: str) -> None:
        self._autoencoder: WanVAE | TinyVAE | None = autoencoder
        self._channels, self._low, self._device = channels, low, device

    def _open(self) -> WanVAE | TinyVAE:
        if self._autoencoder is None:
            raise InvalidRequest("this decoder is closed")
        return self._autoencoder

    def frames(self, latents: Tensor) -> Iterator[Frame]:
        """uint8 frames of (channels, frames, height, width) latents, made as they are asked for."""
        autoencoder = self._open()
        if latents.ndim != 4 or latents.shape[0] != self._channels:
            raise InvalidRequest(
                f"latents have shape {tuple(latents.shape)}, expected {self._channels} channels of 3-D"
            )
        yield from _in_inference(to_frames(self._pixels(autoencoder, latents), self._low))

    def _pixels(self, autoencoder: WanVAE | TinyVAE, latents: Tensor) -> Iterator[Tensor]:
        """Pictures decoded whole, or in ever smaller tiles from where the memory ran out."""
        decode: Decode = lambda part: autoencoder.decode_stream(part.to(self._device, torch.float32))  # noqa: E731
        made = 0
        for tile in (None, *(tile for tile in _TILES if tile < max(latents.shape[2:]))):
            if tile is not None:
                _log.warning("memory ran out after %d frames; going on in tiles of %d", made, tile)
            try:
                pictures = decode(latents) if tile is None else tiled(decode, latents, tile)
                for picture in islice(pictures, made, None):
                    yield picture
                    made += 1
                return
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
            del pictures  # with the features that it keeps, and the cycle of its traceback
            gc.collect()
        raise OutOfMemoryBudget(
            "the decoder does not fit in memory even in small tiles: free some, or use --decoder vae+tiny"
        )

    @torch.inference_mode()
    def encode(self, frames: Iterable[Frame]) -> Tensor:
        """float32 latents (channels, frames, height, width) on the CPU of 4k+1 frames.

        Raises InvalidRequest for no frames, for another number, or for sides that the strides do not divide.
        """
        autoencoder = self._open()
        clip = list(frames)
        if len(clip) % 4 != 1:
            raise InvalidRequest(f"a clip has 4k+1 frames, not {len(clip)}")
        return autoencoder.encode_stream(from_frames(clip, self._low, self._device)).float().cpu()

    def close(self) -> None:
        """Drop the weights."""
        self._autoencoder = None


def out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on the CPU or on a device, rather than anything else."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or any(words in str(error) for words in _OUT_OF_MEMORY)


def _in_inference(frames: Iterator[Frame]) -> Iterator[Frame]:
    """Advance a generator without gradients: a ``with`` around a yield would leak into the caller."""
    while True:
        with torch.inference_mode():
            frame = next(frames, None)
        if frame is None:
            return
        yield frame


def load_full(path: Path, device: str = "auto", precision: str = "auto") -> StreamDecoder:
    """The Wan VAE, 2.1 or 2.2, in ``path``."""
    device = pick_device(device)
    with open_weights(path) as weights:
        vae = load_vae(weights, device, pick_dtype(precision, device))
    return StreamDecoder(vae, vae.config.latent_channels, -1.0, device)


def load_tiny_decoder(path: Path, device: str = "auto", precision: str = "auto") -> StreamDecoder:
    """The tiny autoencoder in ``path``."""
    device = pick_device(device)
    with open_weights(path) as weights:
        tiny = load_tiny(weights, device, pick_dtype(precision, device))
    return StreamDecoder(tiny, tiny.config.latent_channels, 0.0, device)
