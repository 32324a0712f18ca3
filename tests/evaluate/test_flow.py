"""Estimated motion: known translations of a textured picture, and what has no texture or is hidden."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from wanrun.evaluate.flow import Picture, consistent, estimate, warped

#: Where the picture had moved out of sight there is nothing to find.
INSIDE = slice(16, -16), slice(16, -16)


def texture(height: int = 96, width: int = 112, seed: int = 2) -> Picture:
    noise = np.random.default_rng(seed).standard_normal((height, width))
    smooth = ndimage.gaussian_filter(noise, 2.0)
    picture: Picture = 128 + 40 * smooth / smooth.std()
    return picture


@pytest.mark.parametrize(
    "moved", [(0.0, 0.0), (1.0, 0.0), (0.0, -2.0), (0.5, 0.25), (-3.5, 4.0), (4.0, -5.0)]
)
def test_a_translation_is_found(moved: tuple[float, float]) -> None:
    one = texture()
    other = ndimage.shift(one, moved, order=3, mode="nearest")
    field = estimate(one, other)
    for found, true in zip(field, moved, strict=True):
        assert np.abs(found[INSIDE] - true).mean() < 0.1
    assert np.abs(warped(other, field) - one)[INSIDE].mean() < 1.0


def test_what_moves_over_a_plain_ground_is_found_where_it_is() -> None:
    one, other = np.full((2, 64, 64), 40.0)
    thing = texture(16, 16)
    one[20:36, 20:36], other[20:36, 23:39] = thing, thing
    down, across = estimate(one, other)
    assert across[24:32, 24:32].mean() == pytest.approx(3, abs=0.3)
    assert abs(down[24:32, 24:32].mean()) < 0.3
    assert np.abs(across[:8]).max() < 0.1


def test_a_plain_picture_has_no_motion() -> None:
    plain = np.full((40, 40), 99.0)
    assert np.abs(estimate(plain, plain)).max() == 0


def test_what_is_hidden_does_not_come_back() -> None:
    there = np.zeros((2, 32, 32))
    back = np.zeros((2, 32, 32))
    there[1, :, :16] = 4.0
    assert not consistent(there, back)[:, :12].any()
    back[1] = -4.0
    assert consistent(there, back)[:, :12].all()
