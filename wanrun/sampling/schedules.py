"""Turns a number of steps and a shift into the sigmas that a sampler walks down.

Both lists are those of the official code (Wan2.2 ``wan/utils/fm_solvers.py``, ``fm_solvers_unipc.py``) to the
last bit: the solvers truncate 1000σ to an integer, so a rounding error can change what the model is told.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from wanrun.errors import InvalidRequest

#: The noise levels the model was trained on are thousandths; more steps than that repeat timesteps.
STEPS_LIMIT = 1000
SHIFT_LIMITS = (0.001, 1000.0)

#: Where the official UniPC starts: 1 − 1/1000, which that code keeps as float32.
UNIPC_START = float(np.float32(0.999))

Level = TypeVar("Level", float, "np.ndarray[tuple[int], np.dtype[np.float64]]")


def shift(sigma: Level, s: float) -> Level:
    """σ' = sσ / (1 + (s − 1)σ): for s > 1 more steps at high noise (Esser et al. 2024, arXiv 2403.03206)."""
    return s * sigma / (1 + (s - 1) * sigma)


def linear(steps: int, shift: float) -> Tensor:
    """``steps`` + 1 float64 sigmas, evenly from 1 to 0 before the shift: the official list for DPM++."""
    return _shifted(1.0, steps, shift)


def unipc(steps: int, shift: float) -> Tensor:
    """``steps`` + 1 float64 sigmas, evenly from 0.999 to 0 before the shift: the official list for UniPC."""
    return _shifted(UNIPC_START, steps, shift)


def _shifted(start: float, steps: int, s: float) -> Tensor:
    if not 1 <= steps <= STEPS_LIMIT:
        raise InvalidRequest(f"steps must be 1 to {STEPS_LIMIT}, not {steps}")
    low, high = SHIFT_LIMITS
    if not low <= s <= high:
        raise InvalidRequest(f"shift must be {low:g} to {high:g}, not {s}")
    return torch.from_numpy(shift(np.linspace(start, 0.0, steps + 1), s))
