"""How alike a model's video is to the reference's, and the mean of many."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wanrun.evaluate import metrics
from wanrun.evaluate.lpips import Lpips
from wanrun.evaluate.making import Made


@dataclass(frozen=True, slots=True)
class Likeness:
    """One video, or the mean of many, against the reference's.

    ``error`` (relative) and ``cosine`` are the final latents'; ``psnr`` is in dB, infinite for equal frames;
    ``lpips`` is None without weights; ``drift`` is the latents' relative error after each step, empty where
    the numbers of steps differ.
    """

    error: float
    cosine: float
    psnr: float
    ssim: float
    lpips: float | None
    drift: tuple[float, ...]

    def plain(self) -> dict[str, Any]:
        """For JSON, which knows no infinity: None is the PSNR of equal frames."""
        return {**asdict(self), "psnr": self.psnr if math.isfinite(self.psnr) else None}


def compare(made: Made, reference: Made, index: int, lpips: Lpips | None) -> Likeness:
    """The video ``index`` of both."""
    trails = made.trail(index), reference.trail(index)
    frames = list(made.frames(index)), list(reference.frames(index))
    return Likeness(
        metrics.relative_error(trails[0][-1], trails[1][-1]),
        metrics.cosine(trails[0][-1], trails[1][-1]),
        metrics.psnr(*frames),
        metrics.ssim(*frames),
        lpips(*frames) if lpips else None,
        _drift(*trails),
    )


def mean(alike: Sequence[Likeness]) -> Likeness:
    """Means; PSNR's is that of the clips which differ."""
    differing = [each.psnr for each in alike if math.isfinite(each.psnr)]
    rated = [each.lpips for each in alike if each.lpips is not None]
    return Likeness(
        float(np.mean([each.error for each in alike])),
        float(np.mean([each.cosine for each in alike])),
        float(np.mean(differing)) if differing else math.inf,
        float(np.mean([each.ssim for each in alike])),
        float(np.mean(rated)) if rated else None,
        tuple(np.mean([each.drift for each in alike], axis=0).tolist()),
    )


def _drift(ours: NDArray[np.float32], reference: NDArray[np.float32]) -> tuple[float, ...]:
    if len(ours) != len(reference):
        return ()
    return tuple(metrics.relative_error(*pair) for pair in zip(ours, reference, strict=True))
