"""Estimates the motion between two pictures: pyramidal Lucas–Kanade (Bouguet 2001), for every pixel.

Where a picture has no texture there is nothing to see of its motion; the estimate there is small.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Picture = NDArray[np.float64]  # (height, width)
Field = NDArray[np.float64]  # (2, height, width): pixels down, pixels across

_WINDOW = 2.0  # standard deviation in pixels of the window in which all pixels move alike
_SMALLEST = 12  # pixels of a side below which there is no coarser level
_ITERATIONS = 8
_TEXTURE = 4.0  # squared grey levels a pixel: gradients well below this do not count


def estimate(one: Picture, other: Picture) -> Field:
    """Where each pixel of ``one`` (grey levels 0..255) is found in ``other``, relative to its place."""
    coarse = np.zeros((2, *one.shape))
    if min(one.shape) >= 2 * _SMALLEST:
        halved = estimate(_halved(one), _halved(other))
        coarse = 2 * np.stack([_enlarged(each, one.shape) for each in halved])
    # what a coarser level has seen of a thing's motion is not that of the plain ground beside it
    field = coarse * _texture(one)
    for _ in range(_ITERATIONS):
        field = field + _refinement(one, warped(other, field))
    smoothed: Field = np.stack([ndimage.median_filter(each, 3) for each in field])
    return smoothed


def warped(picture: Picture, field: Field) -> Picture:
    """``picture`` as it looks from where ``field`` begins: its value at each pixel's place plus the field."""
    places = np.indices(picture.shape) + field
    found: Picture = ndimage.map_coordinates(picture, places, order=1, mode="nearest")
    return found


def consistent(forward: Field, backward: Field) -> NDArray[np.bool_]:
    """Pixels that the way there and back returns to (Sundaram et al. 2010): the others are hidden there."""
    back = np.stack([warped(each, forward) for each in backward])
    gap = ((forward + back) ** 2).sum(0)
    seen: NDArray[np.bool_] = gap < 0.01 * ((forward**2).sum(0) + (back**2).sum(0)) + 0.5
    return seen


def grey(frame: NDArray[np.uint8]) -> Picture:
    """Luma (ITU-R BT.601) of (height, width, 3) uint8."""
    luma: Picture = frame.astype(float) @ np.array([0.299, 0.587, 0.114])
    return luma


def _refinement(one: Picture, found: Picture) -> Field:
    """The least-squares step of the window around each pixel."""
    down, across = _gradients(found)
    change = found - one
    dd, aa, da = (_windowed(product) for product in (down * down, across * across, down * across))
    dc, ac = _windowed(down * change), _windowed(across * change)
    dd, aa = dd + _TEXTURE, aa + _TEXTURE
    determinant = dd * aa - da * da
    step = np.stack([da * ac - aa * dc, da * dc - dd * ac]) / determinant
    # farther away than this, what the gradients say is no longer true
    return step.clip(-1, 1)


def _texture(picture: Picture) -> Picture:
    """0 where there is nothing to see, to 1."""
    down, across = _gradients(picture)
    energy = _windowed(down * down + across * across)
    texture: Picture = energy / (energy + _TEXTURE)
    return texture


def _gradients(picture: Picture) -> tuple[Picture, Picture]:
    down, across = np.gradient(picture)
    return np.asarray(down), np.asarray(across)


def _windowed(values: Picture) -> Picture:
    mean: Picture = ndimage.gaussian_filter(values, _WINDOW, mode="nearest")
    return mean


def _halved(picture: Picture) -> Picture:
    half: Picture = ndimage.gaussian_filter(picture, 1.0, mode="nearest")[::2, ::2]
    return half


def _enlarged(values: Picture, shape: tuple[int, ...]) -> Picture:
    places = np.indices(shape) / 2
    large: Picture = ndimage.map_coordinates(values, places, order=1, mode="nearest")
    return large
