"""How far two videos are apart, in latents and in pixels: closed formulas over arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from wanrun.errors import InvalidRequest

if TYPE_CHECKING:
    from wanrun.types import Frame

#: Wang et al. 2004: the constants, and the Gaussian window of 11 pixels.
_K1, _K2, _SIGMA, _RADIUS = 0.01, 0.03, 1.5, 5


def cosine(ours: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """The cosine of the angle between two arrays as vectors; 1 where both are zero."""
    first, second = (array.astype(np.float64).ravel() for array in _same(ours, reference))
    norms = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / norms if norms else float(np.array_equal(first, second))


def relative_error(ours: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """‖ours − reference‖ / ‖reference‖, 0 where they are equal."""
    first, second = (array.astype(np.float64) for array in _same(ours, reference))
    apart = float(np.linalg.norm(first - second))
    norm = float(np.linalg.norm(second))
    return apart / norm if norm else (float("inf") if apart else 0.0)


def psnr(ours: Sequence[Frame], reference: Sequence[Frame]) -> float:
    """Peak signal-to-noise ratio of a whole clip in dB, of a peak of 255; infinite for equal clips."""
    first, second = _same(np.stack(ours), np.stack(reference))
    error = float(np.mean(np.square(first.astype(np.float64) - second)))
    return 10 * float(np.log10(255**2 / error)) if error else float("inf")


def ssim(ours: Sequence[Frame], reference: Sequence[Frame]) -> float:
    """Structural similarity (Wang et al. 2004, IEEE TIP 13/4), the mean over pixels, channels and frames.

    Windows are Gaussian with σ 1.5 and 11 pixels wide; only those that lie within the picture count.
    Raises InvalidRequest for frames that are smaller than a window.
    """
    return float(np.mean([_frame_ssim(*pair) for pair in zip(ours, reference, strict=True)]))


def _frame_ssim(ours: Frame, reference: Frame) -> float:
    if min(ours.shape[:2]) <= 2 * _RADIUS:
        raise InvalidRequest(
            f"SSIM needs frames of more than {2 * _RADIUS} pixels a side, not {ours.shape[:2]}"
        )
    x, y = (frame.astype(np.float64) for frame in _same(ours, reference))
    mean_x, mean_y = _window(x), _window(y)
    variance_x, variance_y = _window(x * x) - mean_x**2, _window(y * y) - mean_y**2
    covariance = _window(x * y) - mean_x * mean_y
    c1, c2 = (255 * _K1) ** 2, (255 * _K2) ** 2
    likeness = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    likeness /= (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    return float(likeness.mean())


def _window(picture: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weighted means around the pixels (height, width, channels) whose window lies within the picture."""
    for axis in (0, 1):
        picture = gaussian_filter1d(picture, _SIGMA, axis, radius=_RADIUS)
    inner: NDArray[np.float64] = picture[_RADIUS:-_RADIUS, _RADIUS:-_RADIUS]
    return inner


def _same(ours: NDArray[Any], reference: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    if ours.shape != reference.shape:
        raise InvalidRequest(f"only equal sizes can be compared, not {ours.shape} and {reference.shape}")
    return ours, reference
