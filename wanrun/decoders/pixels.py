"""Frames as people see them and as networks do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from wanrun.errors import InvalidRequest
from wanrun.types import Frame


def to_frames(pixels: Iterable[Tensor], low: float) -> Iterator[Frame]:
    """uint8 (height, width, 3) of (3, height, width) pixels in ``low``..1, rounded to the nearest."""
    for picture in pixels:
        unit = (picture - low) / (1 - low)
        frame: Frame = (unit * 255).round().to("cpu", torch.uint8).permute(1, 2, 0).contiguous().numpy()
        yield frame


def from_frames(frames: Iterable[Frame], low: float, device: str) -> Iterator[Tensor]:
    """The inverse of ``to_frames``; raises InvalidRequest for anything but uint8 (height, width, 3)."""
    for frame in frames:
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != "uint8":
            raise InvalidRequest(f"a frame is uint8 (height, width, 3), not {frame.dtype} {frame.shape}")
        unit = torch.from_numpy(frame.copy()).to(device).permute(2, 0, 1).float() / 255
        yield unit * (1 - low) + low
