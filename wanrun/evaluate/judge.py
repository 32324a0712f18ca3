"""Says what a clip of plainly coloured shapes shows, from its pixels alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wanrun.evaluate import motion, shapes
from wanrun.evaluate.segment import COLOURS, Mask, Pixels, components, name, segment

if TYPE_CHECKING:
    from wanrun.types import Frame

_OVERLAP = 0.05  # of the smaller box's area from which two objects count as one behind the other


@dataclass(frozen=True, slots=True)
class SeenObject:
    """One object over the whole clip."""

    colour: str
    shape: str
    motion: str
    #: Mean x and y as fractions of the picture's side.
    centre: tuple[float, float]
    #: Part of the frames that show it with this colour and this shape.
    identity: float
    #: Mean box in pixels.
    box: shapes.Box
    #: Pixels of other objects within its outline, all frames together: what lies behind has more of them.
    hidden: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What a clip shows."""

    ground: str
    #: The largest first; at most one per colour.
    objects: tuple[SeenObject, ...]
    #: How many separate objects, also of one colour.
    count: int
    #: (colour, relation, colour) of the first two objects: ``left of``, ``above`` or ``behind``.
    relation: tuple[str, str, str] | None
    #: Mean absolute second difference in time, 0..255, where nothing ever moves.
    flicker: float


def look(frames: Sequence[Frame]) -> Seen:
    """Judge a clip: frames uint8 (height, width, 3) of one size."""
    clip: Pixels = np.stack(frames)
    parts = segment(clip)
    objects = tuple(_follow(clip, colour, parts.masks) for colour in parts.masks)
    count = sum(int(np.median([components(frame) for frame in mask])) for mask in parts.masks.values())
    relation = _relation(*objects[:2]) if len(objects) > 1 else None
    return Seen(parts.ground, objects, count, relation, flicker(clip, parts.foreground))


def flicker(clip: Pixels, moving: Mask) -> float:
    """Mean absolute second difference in time outside all that moves, 0..255; NaN if everything moves."""
    still = ~ndimage.binary_dilation(moving.any(0), iterations=2)
    if len(clip) < 3 or not still.any():
        return float("nan")
    return float(np.abs(np.diff(clip[:, still].astype(float), n=2, axis=0)).mean())


def _follow(clip: Pixels, colour: str, masks: Mapping[str, Mask]) -> SeenObject:
    mask = masks[colour]
    others = np.any([np.zeros_like(mask), *(masks[other] for other in masks if other != colour)], axis=0)
    present = [index for index in range(len(mask)) if mask[index].any()]
    fits = [shapes.fit(mask[index], others[index]) for index in present]
    totals = {shape: sum(item[shape][0] for item in fits) for shape in shapes.OUTLINES}
    shape = max(totals, key=lambda key: totals[key])
    same = [
        max(item, key=lambda key: item[key][0]) == shape and _colour(clip[index], mask[index]) == colour
        for index, item in zip(present, fits, strict=True)
    ]
    boxes = [item[shape][1] for item in fits]
    hidden = sum(
        int((shapes.drawn(shapes.SHARP[shape], at, *mask.shape[1:]) & others[index]).sum())
        for index, at in zip(present, boxes, strict=True)
    )
    moved, (x, y) = _motion(boxes, *mask.shape[1:])
    edges = np.mean([(at.left, at.top, at.right, at.bottom) for at in boxes], axis=0)
    return SeenObject(colour, shape, moved, (x, y), sum(same) / len(mask), shapes.Box(*edges), hidden)


def _motion(boxes: Sequence[shapes.Box], height: int, width: int) -> tuple[str, tuple[float, float]]:
    """The name of the boxes' motion, and their mean centre as fractions of the picture."""
    centres = np.array(
        [((at.left + at.right) / 2 / width, (at.top + at.bottom) / 2 / height) for at in boxes]
    )
    sizes = np.array([np.sqrt(at.width * at.height / (width * height)) for at in boxes])
    x, y = centres.mean(0)
    bottom = float(np.median([at.bottom for at in boxes])) / height
    return motion.name(centres, sizes, bottom), (float(x), float(y))


def _colour(frame: NDArray[np.uint8], mask: NDArray[np.bool_]) -> str:
    return name(np.median(frame[mask], axis=0), COLOURS)


def _relation(one: SeenObject, two: SeenObject) -> tuple[str, str, str]:
    if _shared(one.box, two.box) > _OVERLAP:
        back, front = (one, two) if one.hidden > two.hidden else (two, one)
        return back.colour, "behind", front.colour
    dx, dy = two.centre[0] - one.centre[0], two.centre[1] - one.centre[1]
    relation, first = ("left of", dx > 0) if abs(dx) > abs(dy) else ("above", dy > 0)
    return (one.colour, relation, two.colour) if first else (two.colour, relation, one.colour)


def _shared(one: shapes.Box, two: shapes.Box) -> float:
    """The common area as a part of the smaller box's."""
    width = min(one.right, two.right) - max(one.left, two.left)
    height = min(one.bottom, two.bottom) - max(one.top, two.top)
    return max(0.0, width) * max(0.0, height) / min(one.width * one.height, two.width * two.height)
