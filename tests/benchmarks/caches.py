"""What step caches save on wan-toy, and how far their videos are from those of every step.

``python -m tests.benchmarks.caches [CLIPS]``: prompts of the suite toy, evenly, 40 steps. PSNR is that of all
frames of a clip against the same clip without a cache; fewer steps are there for comparison.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

import wanrun
from wanrun import pipeline
from wanrun.evaluate import toy
from wanrun.request import resolve
from wanrun.types import Bundle, Conditioning, Decoder, Denoiser, GenerationRequest, Tally

STEPS = 40
SETTINGS = (
    "cache=easycache",
    "cache=easycache:threshold=0.1",
    "cache=easycache:threshold=0.2",
    "cache=magcache",
    "cache=magcache:threshold=0.12,longest=4",
    "cache=teacache",
    "cache=teacache:threshold=0.2",
    "cache=firstblock:threshold=0.1",
    "cache=firstblock:threshold=0.15",
    "steps=20",
    "steps=16",
)

Clip = NDArray[np.uint8]


def psnr(one: Clip, other: Clip) -> float:
    """In dB, of 8 bits."""
    error = float(np.mean((one.astype(float) - other) ** 2))
    return 10 * math.log10(255**2 / max(1e-9, error))


def main() -> None:
    bundle = wanrun.load("wan-toy")
    asked = toy.spread(toy.suite(), int(sys.argv[1]) if len(sys.argv) > 1 else 10)
    requests = _requests(bundle, asked, "")
    conditionings = pipeline.encode_all(bundle, requests)
    with (
        pipeline.open_denoiser(bundle, requests[0], "cpu", 100_000_000) as denoiser,
        pipeline.open_decoder(bundle, requests[0], "cpu") as decoder,
    ):
        whole = [clip for clip, _ in _clips(denoiser, decoder, requests, conditionings)]
        print(f"{len(asked)} clips, {STEPS} steps; fewer forwards, PSNR in dB: mean, lowest")  # noqa: T201
        for settings in SETTINGS:
            changed = _requests(bundle, asked, settings)
            made = list(_clips(denoiser, decoder, changed, conditionings))
            kept = np.mean([request.steps / STEPS for request in changed])
            kept *= 1 - np.mean([tally.share for _, tally in made])
            values = [psnr(clip, other) for clip, (other, _) in zip(whole, made, strict=True)]
            row = f"{settings:42} {1 / kept:5.2f}x {np.mean(values):6.1f} {min(values):6.1f}"
            print(row, flush=True)  # noqa: T201


def _requests(bundle: Bundle, asked: list[toy.Asked], settings: str) -> list[GenerationRequest]:
    name, _, value = settings.partition("=")
    changed = {name: value} if name else {}
    return [resolve(bundle, item.prompt, {"seed": item.seed, "steps": STEPS, **changed}) for item in asked]


def _clips(
    denoiser: Denoiser,
    decoder: Decoder,
    requests: list[GenerationRequest],
    conditionings: list[Conditioning],
) -> Iterator[tuple[Clip, Tally]]:
    for request, conditioning in zip(requests, conditionings, strict=True):
        tally = Tally()
        latents = pipeline.denoise(denoiser, request, conditioning, tally=tally)
        yield np.stack(list(pipeline.decode(decoder, request, latents))), tally


if __name__ == "__main__":
    main()
