"""Contact sheets: every frame in its place."""

from __future__ import annotations

import numpy as np
import pytest

from wanrun.errors import InvalidRequest
from wanrun.video.contact import contact_sheet

from .clips import smooth


def test_rows_and_columns() -> None:
    frames = list(smooth(5, 8, 12))
    sheet = contact_sheet(frames, 3, gap=2)
    assert sheet.shape == (2 * 8 + 2, 3 * 12 + 2 * 2, 3)
    assert sheet.dtype == np.uint8
    for index, frame in enumerate(frames):
        top, left = index // 3 * 10, index % 3 * 14
        assert np.array_equal(sheet[top : top + 8, left : left + 12], frame)
    assert (sheet[8:10] == 255).all()
    assert (sheet[10:, 28:] == 255).all()


def test_fewer_frames_than_columns_make_no_empty_ones() -> None:
    assert contact_sheet(list(smooth(2, 8, 12)), 9, gap=0).shape == (8, 24, 3)


def test_refuses() -> None:
    frames = list(smooth(2, 8, 12))
    with pytest.raises(InvalidRequest, match="frames and columns"):
        contact_sheet([], 3)
    with pytest.raises(InvalidRequest, match="frames and columns"):
        contact_sheet(frames, 0)
    with pytest.raises(InvalidRequest, match="one size"):
        contact_sheet([*frames, frames[0][:4]], 3)
