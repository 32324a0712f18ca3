"""Lays frames out on one sheet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from wanrun.errors import InvalidRequest

if TYPE_CHECKING:
    from wanrun.types import Frame


def contact_sheet(frames: Sequence[Frame], columns: int, gap: int = 2) -> Frame:
    """uint8 (height, width, 3): frames of one size in rows of ``columns``, ``gap`` white pixels between them.

    Raises InvalidRequest for no frames, no columns or frames of several sizes.
    """
    if not frames or columns < 1 or gap < 0:
        raise InvalidRequest(
            f"a contact sheet needs frames and columns, not {len(frames)} frames in {columns} columns"
        )
    if len({frame.shape for frame in frames}) > 1:
        raise InvalidRequest(
            f"frames of one sheet must have one size, not {sorted({f.shape[:2] for f in frames})}"
        )
    height, width = frames[0].shape[:2]
    columns = min(columns, len(frames))
    rows = -(-len(frames) // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, dtype=np.uint8)
    for index, frame in enumerate(frames):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = frame
    return sheet
