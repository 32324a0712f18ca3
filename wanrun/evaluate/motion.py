"""Names the motion of a track: where an object was and how large, frame by frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GROWN = np.log(1.3)  # of the object's side, from first to last
_STILL = 0.06  # of the picture's side: less movement than this is none
_ROUND = 0.16  # both axes' range from which a path is a circle
_RETURNS = 0.09  # up and down at least this far is bouncing
_ON_FLOOR = 0.935  # below which the lower edge of something that rolls lies


def name(centres: NDArray[np.float64], sizes: NDArray[np.float64], bottom: float) -> str:
    """The motion of one object.

    ``centres`` (frames, 2) are x and y, ``sizes`` (frames,) the square roots of its area, both as fractions
    of the picture's side; ``bottom`` is the median height of its lower edge, 1 at the picture's.
    """
    if len(sizes) < 3:
        return "staying still"
    grown = np.log(np.median(sizes[-2:]) / np.median(sizes[:2]))
    if abs(grown) > _GROWN:
        return "growing" if grown > 0 else "shrinking"
    across, down = np.ptp(centres, axis=0)
    if max(across, down) < _STILL:
        return "staying still"
    if min(across, down) > _ROUND:
        return "circling"
    if down > across:
        steps = np.diff(centres[:, 1])
        if min(steps[steps > 0].sum(), -steps[steps < 0].sum()) > _RETURNS:
            return "bouncing"
        return "moving down" if centres[-1, 1] > centres[0, 1] else "moving up"
    if bottom > _ON_FLOOR:
        return "rolling"
    return "moving right" if centres[-1, 0] > centres[0, 0] else "moving left"
