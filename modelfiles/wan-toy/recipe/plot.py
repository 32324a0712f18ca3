"""Draws the training log: every stage's loss over its hours, smoothed."""

from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

WINDOW = 10  # logged values in a mean
LONGEST_STEP_S = 120.0  # a longer pause between two log lines is an interruption and does not count


def curve(path: Path) -> tuple[list[float], list[float]]:
    """Hours of work since the stage began, and the mean loss."""
    rows = list(csv.DictReader(path.open()))
    times = [float(row["seconds"]) for row in rows]
    worked = np.cumsum([0.0, *(min(b - a, LONGEST_STEP_S) for a, b in pairwise(times))]) / 3600
    losses = np.array([float(row["loss"]) for row in rows])
    window = min(WINDOW, len(losses))
    smooth = np.convolve(losses, np.ones(window) / window, "valid")
    return list(worked[window - 1 :]), list(smooth)


def plot(folder: Path, stages: list[str], path: Path) -> None:
    """One small picture a stage, side by side."""
    figure, axes = plt.subplots(1, len(stages), figsize=(3 * len(stages), 2.6), constrained_layout=True)
    for stage, axis in zip(stages, np.atleast_1d(axes), strict=True):
        axis.plot(*curve(folder / f"{stage}.csv"), linewidth=1)
        axis.set_title(stage, fontsize=9)
        axis.set_yscale("log")
        axis.set_xlabel("hours", fontsize=8)
        axis.tick_params(labelsize=7, which="both")
    axes[0].set_ylabel("loss", fontsize=8)
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    from make import STEPS

    here = Path(__file__).parent.parent
    logged = [stage for stage in STEPS if (here / "training" / f"{stage}.csv").is_file()]
    plot(here / "training", logged, here / "training.png")
