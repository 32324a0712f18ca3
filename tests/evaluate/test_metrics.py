"""The measures of likeness against closed forms and against sums written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import convolve2d

from wanrun.errors import InvalidRequest
from wanrun.evaluate.metrics import cosine, psnr, relative_error, ssim

Clip = list[NDArray[np.uint8]]


def noise(seed: int, frames: int = 2, size: tuple[int, int] = (24, 31)) -> Clip:
    generator = np.random.default_rng(seed)
    return [generator.integers(0, 256, (*size, 3), np.uint8) for _ in range(frames)]


def flat(value: int) -> Clip:
    return [np.full((16, 16, 3), value, np.uint8)]


def test_latents_at_a_known_angle_and_distance() -> None:
    x = np.array([[3.0, 4.0]], np.float32)
    assert cosine(x, x) == pytest.approx(1)
    assert cosine(x, -x) == pytest.approx(-1)
    assert cosine(np.array([[4.0, -3.0]], np.float32), x) == pytest.approx(0, abs=1e-9)
    assert relative_error(np.array([[3.0, 4.5]], np.float32), x) == pytest.approx(0.1)
    zero = np.zeros((1, 2), np.float32)
    assert (cosine(zero, zero), relative_error(zero, zero)) == (1, 0)
    assert (cosine(zero, x), relative_error(x, zero)) == (0, math.inf)


def test_psnr_of_a_known_difference() -> None:
    assert psnr(flat(100), flat(110)) == pytest.approx(20 * math.log10(255 / 10))
    assert psnr(flat(0), flat(255)) == pytest.approx(0)
    assert psnr(flat(7), flat(7)) == math.inf


def test_ssim_of_flat_pictures_is_what_the_formula_leaves() -> None:
    c1 = (0.01 * 255) ** 2
    assert ssim(flat(80), flat(120)) == pytest.approx((2 * 80 * 120 + c1) / (80**2 + 120**2 + c1))
    assert ssim(flat(0), flat(0)) == 1
    assert ssim(noise(0), noise(0)) == pytest.approx(1)


def test_ssim_is_the_sum_written_out() -> None:
    axis = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window = np.outer(axis, axis) / axis.sum() ** 2

    def mean(picture: NDArray[np.float64]) -> NDArray[np.float64]:
        whole: NDArray[np.float64] = convolve2d(picture, window, mode="valid")
        return whole

    first, second = noise(1), noise(2)
    second = [
        ((frame.astype(int) + 3 * other) // 4).astype(np.uint8)
        for frame, other in zip(second, first, strict=True)
    ]
    scores = []
    for one, other in zip(first, second, strict=True):
        for channel in range(3):
            x, y = one[..., channel].astype(float), other[..., channel].astype(float)
            mx, my = mean(x), mean(y)
            vx, vy, both = mean((x) ** 2) - mx**2, mean(y**2) - my**2, mean(x * y) - mx * my
            top = (2 * mx * my + 6.5025) * (2 * both + 58.5225)
            scores.append((top / ((mx**2 + my**2 + 6.5025) * (vx + vy + 58.5225))).mean())
    assert ssim(first, second) == pytest.approx(np.mean(scores), rel=1e-9)
    assert 0.1 < np.mean(scores) < 0.99


def test_other_sizes_cannot_be_compared() -> None:
    with pytest.raises(InvalidRequest, match="equal sizes"):
        psnr(flat(0), noise(0, 1))
    with pytest.raises(InvalidRequest, match="pixels a side"):
        ssim([np.zeros((8, 40, 3), np.uint8)], [np.zeros((8, 40, 3), np.uint8)])
    with pytest.raises(InvalidRequest, match="equal sizes"):
        cosine(np.zeros(3, np.float32), np.zeros(4, np.float32))
