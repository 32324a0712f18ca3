"""Smooths what stands still in a video, and leaves alone what moves.

A frame's pixel becomes, in part, the mean of itself and its neighbours in time. The part is the strength
where nothing near it changes by more than flicker does, and falls to none where something moves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from wanrun.types import Frame

#: In grey levels of 255: changes up to the first are flicker, from the second on they are motion.
_FLICKER, _MOTION = 6.0, 14.0
#: Pixels around one that must stand still as well.
_REACH = 2


def steady(frames: Iterable[Frame], strength: float) -> Iterator[Frame]:
    """``frames``, of each the still areas smoothed by ``strength`` 0..1; one frame later than they come."""
    if strength == 0:
        yield from frames
        return
    window: list[Frame] = []
    for frame in frames:
        window = [*window[-2:], frame]
        if len(window) == 2:
            yield _smoothed(window[0], window[:2], strength)
        elif len(window) == 3:
            yield _smoothed(window[1], window, strength)
    if window:
        yield _smoothed(window[-1], window[-2:], strength)


def _smoothed(frame: Frame, near: list[Frame], strength: float) -> Frame:
    own = frame.astype(np.float32)
    others = [each.astype(np.float32) for each in near]
    change = np.max([np.abs(each - own).max(-1) for each in others], axis=0)
    part = strength * _still(change)[..., None]
    mean = np.mean(others, axis=0)
    smoothed: Frame = (own + part * (mean - own)).round().clip(0, 255).astype(np.uint8)
    return smoothed


def _still(change: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 where no pixel within reach changes by more than flicker, 0 where one moves; (height, width)."""
    most = change
    for axis in (0, 1):
        padded = np.pad(most, [(_REACH, _REACH) if each == axis else (0, 0) for each in (0, 1)], "edge")
        size = most.shape[axis]
        most = np.max(
            [np.take(padded, range(at, at + size), axis=axis) for at in range(2 * _REACH + 1)], axis=0
        )
    still: NDArray[np.float32] = ((_MOTION - most) / (_MOTION - _FLICKER)).clip(0, 1).astype(np.float32)
    return still
