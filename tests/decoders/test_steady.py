"""Smoothing in time: still areas become still, what moves keeps every pixel, and nothing is held back."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from wanrun.decoders.steady import steady
from wanrun.types import Frame


def clip(frames: int = 12, noise: float = 2.0) -> np.ndarray:
    """A square that moves two pixels a frame over a flickering ground."""
    rng = np.random.default_rng(4)
    pixels = 120 + noise * rng.standard_normal((frames, 32, 48, 3))
    for index in range(frames):
        pixels[index, 12:20, 2 + 2 * index : 10 + 2 * index] = 240
    return pixels.round().clip(0, 255).astype(np.uint8)


def flicker(frames: np.ndarray, rows: slice) -> float:
    return float(np.abs(np.diff(frames[:, rows].astype(float), n=2, axis=0)).mean())


def test_still_ground_flickers_less_and_moving_things_stay_sharp() -> None:
    before = clip()
    after = np.stack(list(steady(before, 1.0)))
    assert after.shape == before.shape
    assert flicker(after, slice(0, 8)) < 0.5 * flicker(before, slice(0, 8))
    for index in range(1, 11):  # where the square is, was or will be, nothing is mixed
        area = slice(12, 20), slice(2 * index, 12 + 2 * index)
        assert np.array_equal(after[index][area], before[index][area])


def test_a_still_picture_stays_what_it_is() -> None:
    before = np.repeat(clip(1), 5, axis=0)
    assert np.array_equal(np.stack(list(steady(before, 1.0))), before)


def test_strength_0_is_off_and_half_is_between() -> None:
    before = clip()
    assert np.array_equal(np.stack(list(steady(before, 0.0))), before)
    amounts = [flicker(np.stack(list(steady(before, each))), slice(0, 8)) for each in (0.0, 0.5, 1.0)]
    assert amounts == sorted(amounts, reverse=True)
    assert amounts[0] > amounts[1] > amounts[2]


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_short_clips_keep_their_frames(frames: int) -> None:
    assert len(list(steady(clip(frames), 1.0))) == frames


def test_frames_come_one_later_than_they_are_made() -> None:
    made = 0

    def frames() -> Iterator[Frame]:
        nonlocal made
        for frame in clip(6):
            made += 1
            yield frame

    stream = steady(frames(), 0.5)
    for index in range(5):
        next(stream)
        assert made == index + 2
