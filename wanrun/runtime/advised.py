"""Turns a target or a level of quality among what was asked for into settings."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, cast

from wanrun import settings
from wanrun.errors import InvalidRequest
from wanrun.request import resolve
from wanrun.runtime.choice import LEVELS, Choice, Chooser, Level, Wish
from wanrun.runtime.estimate import open_estimator
from wanrun.runtime.forecast import Forecaster
from wanrun.runtime.quality import find_table
from wanrun.types import Bundle

#: What stands for settings among what is asked for.
WISHES = ("target", "quality")
_LONGEST_S = 30 * 86_400.0


def advise(
    bundle: Bundle,
    prompt: str,
    asked: Mapping[str, Any],
    device: str,
    memory: int | None = None,
    trial: bool = True,
) -> tuple[dict[str, Any], Choice | None]:
    """``asked`` without ``target`` and ``quality``, and with what was chosen for them if they were there.

    ``memory`` is in bytes. With ``trial`` this process makes the video, and may try some steps of it. Raises
    InvalidRequest for what is no target or level, when nothing is done in time, and as ``resolve``.
    """
    began = time.process_time()
    named = {name: value for name, value in asked.items() if value is not None and name not in WISHES}
    wish = Wish(read_target(asked.get("target")), read_level(asked.get("quality")))
    if wish == Wish():
        return named, None
    request = resolve(bundle, prompt, named)
    estimator = open_estimator(bundle, device, memory)
    forecaster = Forecaster(estimator, device, began if trial else None)
    if wish.target_s is not None and trial:
        forecaster.try_out(request, wish.target_s)
    chooser = Chooser(
        request,
        frozenset(named),
        "preview" in bundle.components,
        find_table(bundle),
        forecaster.seconds,
    )
    choice = chooser.choose(wish)
    return {**named, **choice.settings}, choice


def read_target(value: object) -> float | None:
    """Seconds of a target: a number, or a duration such as 90s or 2m; InvalidRequest for what is none."""
    if value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    text = f"{value}s" if number else str(value).strip()
    seconds = settings.parse_duration(text, "target")
    if not 0 < seconds <= _LONGEST_S:
        raise InvalidRequest(f"target must be above 0 and at most 30 days, not {text[:60]!r}")
    return seconds


def read_level(value: object) -> Level | None:
    """A level of quality; InvalidRequest for what is none."""
    if value is None:
        return None
    if not isinstance(value, str) or value not in LEVELS:
        raise InvalidRequest(f"quality must be one of {', '.join(LEVELS)}, not {value!r:.60}")
    return cast(Level, value)
