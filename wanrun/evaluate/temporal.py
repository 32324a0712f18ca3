"""The suite ``temporal``: how steady videos are in time, on the prompts of the suite ``toy``.

flicker    mean absolute second difference in time where nothing moves, in grey levels of 255
warping    mean absolute difference between a frame and the next one brought back along the estimated
           flow, where the flow is seen both ways, in grey levels of 255 (Lai et al. 2018, arXiv 1808.00449)
identity   part of the frames in which an object keeps its shape and colour
movement   95th percentile of the flow's length, in pixels a frame
motion     part of the videos that show the motion which was asked for
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from wanrun.evaluate import flow, toy
from wanrun.evaluate.suite import Report, Strip
from wanrun.types import Bundle, Progress

if TYPE_CHECKING:
    from wanrun.types import Frame

HEADER = ("", "CLIPS", "FLICKER", "WARPING", "IDENTITY", "MOVEMENT", "MOTION")
#: Of identity, below which a clip is marked in the sheet.
_KEPT = 0.8


@dataclass(frozen=True, slots=True)
class Steadiness:
    """One video's measures, or the means of many; flicker is NaN where everything moves."""

    flicker: float
    warping: float
    identity: float
    movement: float
    motion: float


def measure(
    bundle: Bundle, settings: Mapping[str, Any], limit: int | None, progress: Progress, device: str
) -> Report:
    """See ``wanrun.evaluate.suite``."""
    asked = toy.spread(toy.suite(), limit)
    found: list[Steadiness] = []
    strips: list[Strip] = []
    for item, frames in zip(asked, toy.videos(bundle, asked, settings, progress, device), strict=True):
        steady = look(item, frames)
        found.append(steady)
        strips.append((_title(item, steady), list(_wrong(steady)), frames))
    groups = {
        "one object": [each for item, each in zip(asked, found, strict=True) if not item.relation],
        "two objects": [each for item, each in zip(asked, found, strict=True) if item.relation],
        "all": found,
    }
    rows = [_row(name, members) for name, members in groups.items() if members]
    return Report(_values(asked, found, groups), HEADER, rows, strips=strips)


def look(asked: toy.Asked, frames: Sequence[Frame]) -> Steadiness:
    """Measure one video."""
    verdict = toy.judge(asked, frames)
    warping, movement = _along_the_flow(frames)
    kept = [thing.identity for thing in verdict.seen.objects]
    return Steadiness(
        verdict.seen.flicker,
        warping,
        float(np.mean(kept)) if kept else 0.0,
        movement,
        float(verdict.right["motion"]),
    )


def _along_the_flow(frames: Sequence[Frame]) -> tuple[float, float]:
    """The warping error and the movement, the means over all pairs of frames; 0 for a single frame."""
    differences, lengths = [], []
    for one, other in pairwise(frames):
        forward = flow.estimate(flow.grey(one), flow.grey(other))
        seen = flow.consistent(forward, flow.estimate(flow.grey(other), flow.grey(one)))
        brought = np.stack([flow.warped(other[..., channel].astype(float), forward) for channel in range(3)])
        difference = np.abs(brought - one.transpose(2, 0, 1)).mean(0)
        differences.append(float(difference[seen].mean()) if seen.any() else 0.0)
        lengths.append(float(np.percentile(np.hypot(*forward), 95)))
    return (float(np.mean(differences)), float(np.mean(lengths))) if differences else (0.0, 0.0)


def mean(found: Sequence[Steadiness]) -> Steadiness:
    """The mean of every measure over those clips that have it."""
    columns = np.array([list(asdict(each).values()) for each in found], float)
    known = [column[~np.isnan(column)] for column in columns.T]
    return Steadiness(*(float(column.mean()) if len(column) else float("nan") for column in known))


def _row(name: str, members: Sequence[Steadiness]) -> list[str]:
    means = mean(members)
    return [
        name,
        str(len(members)),
        f"{means.flicker:.3f}",
        f"{means.warping:.3f}",
        f"{means.identity:.0%}",
        f"{means.movement:.2f}",
        f"{means.motion:.0%}",
    ]


def _title(asked: toy.Asked, steady: Steadiness) -> str:
    return f"{asked.prompt}  (flicker {steady.flicker:.2f}, warping {steady.warping:.2f})"


def _wrong(steady: Steadiness) -> Iterator[str]:
    if steady.identity < _KEPT:
        yield "identity"
    if not steady.motion:
        yield "motion"


def _values(
    asked: Sequence[toy.Asked], found: Sequence[Steadiness], groups: Mapping[str, Sequence[Steadiness]]
) -> dict[str, Any]:
    return {
        "suite": "temporal",
        "means": {name: _plain(mean(members)) for name, members in groups.items() if members},
        "clips": [
            {"prompt": item.prompt, "seed": item.seed, **_plain(each)}
            for item, each in zip(asked, found, strict=True)
        ],
    }


def _plain(steady: Steadiness) -> dict[str, float | None]:
    """JSON knows no NaN."""
    return {name: None if np.isnan(value) else value for name, value in asdict(steady).items()}
