"""A word's weight in a prompt against what wan-toy shows of it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

import wanrun
from wanrun import pipeline
from wanrun.request import resolve

_WEIGHTS = (0.0, 0.5, 1.0, 2.0)
_SEEDS = range(3)


def test_an_object_shows_more_the_more_it_weighs() -> None:
    """Redness is by how much red exceeds the other colours, 0..255, on the mean of the picture."""
    bundle = wanrun.load("wan-toy")
    requests = [
        resolve(bundle, f"a (red ball:{weight}) on a blue surface", {"steps": 8, "seed": seed})
        for weight in _WEIGHTS
        for seed in _SEEDS
    ]
    conditionings = pipeline.encode_all(bundle, requests)
    with pipeline.open_denoiser(bundle, requests[0], "cpu") as denoiser:
        latents = [pipeline.denoise(denoiser, *pair) for pair in zip(requests, conditionings, strict=True)]
    with pipeline.open_decoder(bundle, requests[0], "cpu") as decoder:
        shown = [
            _redness(np.stack(list(pipeline.decode(decoder, *pair))))
            for pair in zip(requests, latents, strict=True)
        ]
    means = np.reshape(shown, (len(_WEIGHTS), -1)).mean(1)
    assert all(less < more for less, more in pairwise(means)), means


def _redness(clip: np.ndarray) -> float:
    red, green, blue = np.moveaxis(clip.astype(float), -1, 0)
    return float(np.maximum(0, red - np.maximum(green, blue)).mean())
