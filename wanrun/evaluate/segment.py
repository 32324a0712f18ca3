"""Separates plainly coloured objects from a plain ground, and names their colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

#: sRGB of what a person calls these, as objects and as grounds.
COLOURS = {
    "red": (220, 30, 35), "green": (30, 170, 60), "blue": (35, 70, 220), "yellow": (245, 215, 40),
    "purple": (140, 45, 180), "orange": (245, 130, 25), "white": (245, 245, 245), "cyan": (40, 210, 220),
}  # fmt: skip
GROUNDS = {
    "blue": (24, 48, 144), "white": (222, 222, 222), "black": (14, 14, 14), "green": (19, 110, 43),
    "gray": (120, 120, 120), "yellow": (207, 182, 58),
}  # fmt: skip
_APART = 40.0  # Euclidean distance in sRGB from the ground at which a pixel belongs to an object
_COVERED = 0.4  # of an object's distance from the ground that its edge pixels must have
_SHARE = 0.09  # of the inner object pixels that a colour must have to be an object of its own
_PIXELS = 6.0  # per frame that it must have at least
_PART = 0.15  # of the largest component that another must have to count

Pixels = NDArray[np.uint8]  # (frames, height, width, 3)
Mask = NDArray[np.bool_]  # (frames, height, width)


@dataclass(frozen=True, slots=True)
class Segments:
    """A clip's ground and the masks of its objects by colour, the largest first."""

    ground: str
    masks: Mapping[str, Mask]
    foreground: Mask


def segment(clip: Pixels) -> Segments:
    """The objects of ``clip`` (frames, height, width, 3) uint8."""
    border = np.concatenate([clip[:, :2].reshape(-1, 3), clip[:, -2:].reshape(-1, 3)])
    ground = np.median(border, axis=0)
    foreground = _distance(clip, ground) > _APART
    inside = np.stack([ndimage.binary_erosion(mask) for mask in foreground])
    inside = inside if inside.any() else foreground
    pixels = clip[inside]
    votes = _covering(pixels, ground, np.array(list(COLOURS.values())))
    counts = np.bincount(votes, minlength=len(COLOURS))
    found = [
        index
        for index in np.argsort(-counts)
        if counts[index] >= max(_SHARE * len(pixels), _PIXELS * len(clip))
    ]
    owner = _owners(clip, inside, ground, [np.median(pixels[votes == index], axis=0) for index in found])
    names = list(COLOURS)
    masks = {names[index]: _without_crumbs(owner == place + 1) for place, index in enumerate(found)}
    masks = {colour: mask for colour, mask in masks.items() if mask.any()}
    return Segments(name(ground, GROUNDS), masks, foreground)


def _owners(
    clip: Pixels, inside: Mask, ground: NDArray[np.float64], colours: Sequence[NDArray[np.float64]]
) -> NDArray[np.intp]:
    """Which object each pixel belongs to, from 1; 0 is the ground.

    Half-covered pixels look like other colours, so those at an object's edge go with the inner pixel that is
    nearest, if the object covers enough of them.
    """
    owner = np.zeros(clip.shape[:3], np.intp)
    if not colours:
        return owner
    owner[inside] = 1 + _covering(clip[inside], ground, np.array(colours))
    away = _distance(clip, ground)
    needed = np.array([_distance(colour, ground) for colour in colours]) * _COVERED
    for frame, core, distance in zip(owner, inside, away, strict=True):
        if core.any():
            rows, columns = ndimage.distance_transform_edt(~core, return_distances=False, return_indices=True)
            nearest = frame[rows, columns]
            frame[:] = np.where(core | (distance > np.maximum(_APART, needed[nearest - 1])), nearest, 0)
    return owner


def components(mask: NDArray[np.bool_]) -> int:
    """How many separate pieces one frame's mask has, crumbs not counted."""
    labelled, count = ndimage.label(mask, np.ones((3, 3)))
    sizes = np.bincount(labelled.ravel())[1:]
    return int((sizes >= max(_PART * sizes.max(), _PIXELS)).sum()) if count else 0


def name(colour: NDArray[np.float64], names: Mapping[str, tuple[int, int, int]]) -> str:
    """The nearest of ``names``."""
    return list(names)[int(_nearest(colour, np.array(list(names.values()))))]


def _without_crumbs(mask: Mask) -> Mask:
    """Edges between two colours can look like a third: pieces much smaller than the largest are dropped."""
    kept = np.zeros_like(mask)
    for frame, whole in zip(kept, mask, strict=True):
        labelled, count = ndimage.label(whole, np.ones((3, 3)))
        if count:
            sizes = np.bincount(labelled.ravel())
            sizes[0] = 0
            frame |= (sizes >= max(_PART * sizes.max(), _PIXELS))[labelled]
    return kept


def _distance(pixels: NDArray[np.number], colour: NDArray[np.float64]) -> NDArray[np.float64]:
    distance: NDArray[np.float64] = np.linalg.norm(pixels.astype(float) - colour, axis=-1)
    return distance


def _nearest(pixels: NDArray[np.number], colours: NDArray[np.number]) -> NDArray[np.intp]:
    distances = [_distance(pixels, colour) for colour in colours.astype(float)]
    nearest: NDArray[np.intp] = np.argmin(distances, axis=0)
    return nearest


def _covering(
    pixels: NDArray[np.number], ground: NDArray[np.float64], colours: NDArray[np.number]
) -> NDArray[np.intp]:
    """Which of ``colours`` covers each of the pixels (n, 3), most of it or all, over the ground.

    Red over white is pink, which is nearer to orange than to red: a soft edge is compared as a mixture.
    """
    away, distances = pixels.astype(float) - ground, []
    for colour in colours.astype(float) - ground:
        share = (away @ colour / max(1.0, colour @ colour)).clip(_COVERED, 1)
        distances.append(np.linalg.norm(away - share[:, None] * colour, axis=1))
    nearest: NDArray[np.intp] = np.argmin(distances, axis=0)
    return nearest
