"""Tells a ball, square, triangle, star or ring from its mask by how well each outline covers it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Grid = NDArray[np.floating]
Mask = NDArray[np.bool_]
#: Membership on a bounding box's coordinates, u and v in -1..1 with v downwards.
Outline = Callable[[Grid, Grid], Mask]


def _star(u: Grid, v: Grid) -> Mask:
    """A five-pointed star whose inner corners are at 0.43 of the outer ones, in its bounding box."""
    outer, sector = 1.0 / np.sin(2 * np.pi / 5), 2 * np.pi / 5
    height = outer * (1 + np.cos(np.pi / 5))
    x, y = u, (v + 1) / 2 * height - outer
    angle = np.abs((np.arctan2(x, -y) + sector / 2) % sector - sector / 2)
    length = np.hypot(x, y)
    px, py = length * np.cos(angle), length * np.sin(angle)
    ix, iy = 0.43 * outer * np.cos(sector / 2), 0.43 * outer * np.sin(sector / 2)
    inside: Mask = (px - outer) * iy - py * (ix - outer) <= 0
    return inside


def _ring(u: Grid, v: Grid) -> Mask:
    radius = np.hypot(u, v)
    return (radius <= 1) & (radius >= 0.48)


#: The outlines as they are drawn.
SHARP: dict[str, Outline] = {
    "ball": lambda u, v: np.hypot(u, v) <= 1,
    "square": lambda u, v: np.ones(np.broadcast(u, v).shape, bool),
    "triangle": lambda u, v: np.abs(u) <= (v + 1) / 2,
    "star": _star,
    "ring": _ring,
}
#: Width over height of each outline when it is drawn upright.
_ASPECTS = {"ball": 1.0, "square": 1.0, "triangle": 1.155, "star": 1.05, "ring": 1.0}
_BLURS = (0.1, 0.2)  # deviations, of half the object's height
_FINE = 60  # pixels of half the height when an outline is blurred


def _rounded(shape: str, blur: float) -> tuple[Outline, float]:
    """The outline as a blur leaves it, with its corners rounded, and its width over its height."""
    edge = np.arange(-2 * _FINE, 2 * _FINE) + 0.5
    u, v = edge[None, :] / _FINE / _ASPECTS[shape], edge[:, None] / _FINE
    inside = SHARP[shape](u, v) & (np.abs(u) <= 1) & (np.abs(v) <= 1)
    soft: Mask = ndimage.gaussian_filter(inside.astype(float), blur * _FINE) >= 0.5
    at = box(soft)
    assert at is not None
    soft = soft[int(at.top) : int(at.bottom), int(at.left) : int(at.right)]

    def member(u: Grid, v: Grid) -> Mask:
        row, column = (v + 1) / 2 * at.height, (u + 1) / 2 * at.width
        found: Mask = soft[_index(row, len(soft)), _index(column, soft.shape[1])]
        return found

    return member, at.width / at.height


def _index(position: Grid, length: int) -> NDArray[np.intp]:
    return position.astype(np.intp).clip(0, length - 1)


_ASPECT_WEIGHT = 0.3
_HIDDEN = (0.0, 0.2, 0.4)  # how much of its size an object may extend behind another


@dataclass(frozen=True, slots=True)
class Box:
    """Edges in pixels, the right and bottom ones exclusive."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top


def box(mask: Mask) -> Box | None:
    """The bounding box of one frame's mask (height, width), None if it is empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    return Box(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))


#: Of each shape the outlines that it may have, each with its width over its height: a VAE rounds corners.
OUTLINES: dict[str, list[tuple[Outline, float]]] = {
    shape: [(sharp, _ASPECTS[shape]), *(_rounded(shape, blur) for blur in _BLURS)]
    for shape, sharp in SHARP.items()
}


def drawn(outline: Outline, at: Box, height: int, width: int, left: int = 0, top: int = 0) -> Mask:
    """The outline in its box, on (height, width) pixels from (left, top) on."""
    u = (np.arange(left, left + width) + 0.5 - at.left) / at.width * 2 - 1
    v = (np.arange(top, top + height) + 0.5 - at.top) / at.height * 2 - 1
    inside = (np.abs(u) <= 1)[None, :] & (np.abs(v) <= 1)[:, None]
    mask: Mask = outline(u[None, :], v[:, None]) & inside
    return mask


def fit(mask: Mask, hidden: Mask) -> dict[str, tuple[float, Box]]:
    """For each shape how well it explains one frame's mask, at most 1, and in which box.

    ``hidden`` are the pixels of other objects: what lies there is not held against a shape, and the box may
    reach under them.
    """
    seen = box(mask)
    if seen is None:
        return {}
    boxes = _boxes(seen, hidden)
    left, top = int(max(0, min(at.left for at in boxes))), int(max(0, min(at.top for at in boxes)))
    part = (
        slice(top, int(np.ceil(max(at.bottom for at in boxes)))),
        slice(left, int(np.ceil(max(at.right for at in boxes)))),
    )
    mask, free = mask[part], ~hidden[part]
    height, width = mask.shape
    fits = {}
    for shape, outlines in OUTLINES.items():
        best = (-1.0, seen)
        for candidate, (outline, aspect) in itertools.product(boxes, outlines):
            expected = drawn(outline, candidate, height, width, left, top) & free
            union = int(np.count_nonzero(expected | mask))
            overlap = int(np.count_nonzero(expected & mask)) / max(1, union)
            odd = abs(math.log(candidate.width / candidate.height / aspect))
            best = max(best, (overlap - _ASPECT_WEIGHT * odd, candidate), key=lambda item: item[0])
        fits[shape] = best
    return fits


def _boxes(seen: Box, hidden: Mask) -> list[Box]:
    """The box itself, and larger ones towards the side on which something covers it."""
    other = box(hidden)
    if other is None or not _touch(seen, other):
        return [seen]
    right = other.left + other.right > seen.left + seen.right
    below = other.top + other.bottom > seen.top + seen.bottom
    boxes = []
    for wider, higher in itertools.product(_HIDDEN, _HIDDEN):
        x, y = wider * seen.width, higher * seen.height
        boxes.append(
            Box(
                seen.left - x * (not right),
                seen.top - y * (not below),
                seen.right + x * right,
                seen.bottom + y * below,
            )
        )
    return boxes


def _touch(one: Box, other: Box) -> bool:
    return (
        one.left <= other.right + 1
        and other.left <= one.right + 1
        and one.top <= other.bottom + 1
        and other.top <= one.bottom + 1
    )
