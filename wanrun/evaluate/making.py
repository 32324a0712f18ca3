"""Makes a model's videos for comparison, and keeps everything about them in a folder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from wanrun import pipeline
from wanrun.evaluate.memory import Peak
from wanrun.store.store import open_store
from wanrun.types import Bundle, GenerationRequest, Progress

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Made:
    """A model's videos below ``folder``, and what its denoising took."""

    folder: Path
    seconds: float
    peak_bytes: int

    def trail(self, index: int) -> NDArray[np.float32]:
        """The latents after each step of one video, (steps, channels, frames, height, width)."""
        return cast("NDArray[np.float32]", np.load(self.folder / f"{index}-trail.npy", mmap_mode="r"))

    def frames(self, index: int) -> NDArray[np.uint8]:
        """(frames, height, width, 3) of one video."""
        return cast("NDArray[np.uint8]", np.load(self.folder / f"{index}-frames.npy", mmap_mode="r"))


def make(
    bundle: Bundle, requests: Sequence[GenerationRequest], folder: Path, progress: Progress, device: str
) -> Made:
    """The videos of ``requests``; each part of the model is opened once."""
    folder.mkdir(parents=True)
    total = len(requests)
    with open_store().hold():
        conditionings = pipeline.encode_all(bundle, requests, progress)
        started = time.monotonic()
        with Peak(device) as peak, pipeline.open_denoiser(bundle, requests[0], device) as denoiser:
            for index, request in enumerate(requests):
                trail: list[NDArray[np.float32]] = []

                def keep(
                    step: int, latents: Tensor, clean: Tensor, trail: list[NDArray[np.float32]] = trail
                ) -> None:
                    trail.append(latents.cpu().numpy().copy())

                latents = pipeline.denoise(denoiser, request, conditionings[index], on_step=keep)
                trail[-1] = latents.numpy()
                np.save(folder / f"{index}-trail.npy", np.stack(trail))
                progress(f"denoising with {bundle.name}", index + 1, total)
        seconds = time.monotonic() - started
        _decode(bundle, requests, folder, progress, device)
    return Made(folder, seconds, peak.nbytes)


def _decode(
    bundle: Bundle, requests: Sequence[GenerationRequest], folder: Path, progress: Progress, device: str
) -> None:
    import torch  # the latents come back as the decoder wants them

    with pipeline.open_decoder(bundle, requests[0], device) as decoder:
        for index, request in enumerate(requests):
            latents = torch.from_numpy(np.load(folder / f"{index}-trail.npy")[-1])
            frames = np.stack(list(pipeline.decode(decoder, request, latents)))
            np.save(folder / f"{index}-frames.npy", frames)
            progress(f"decoding with {bundle.name}", index + 1, len(requests))
