"""Shows how far a run is: a bar per phase on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from wanrun.types import Progress

_TITLES = {"text": "reading the prompt", "denoise": "denoising", "decode": "decoding"}
_UNITS = {"text": "prompts", "denoise": "steps", "decode": "frames"}
_LINE_EVERY_S = 5.0


class _Display(Protocol):
    def __call__(self, phase: str, done: int, total: int) -> None: ...


@contextmanager
def shown(quiet: bool = False, stream: TextIO | None = None) -> Iterator[Progress]:
    """A Progress that writes to ``stream`` (standard error by default), or nowhere if ``quiet``."""
    stream = stream or sys.stderr
    if quiet:
        yield lambda phase, done, total: None
    elif stream.isatty():
        with _bars(stream) as display:
            yield display
    else:
        yield _lines(stream)


@contextmanager
def _bars(stream: TextIO) -> Iterator[_Display]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:<18}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=Console(file=stream)) as bars:
        tasks: dict[str, tuple[TaskID, float]] = {}

        def display(phase: str, done: int, total: int) -> None:
            if phase not in tasks:
                title = _TITLES.get(phase, phase)
                tasks[phase] = bars.add_task(title, total=total or None, rate=""), time.monotonic()
            task, started = tasks[phase]
            rate = _rate(phase, done, time.monotonic() - started)
            bars.update(task, completed=done, total=total or None, rate=rate)

        yield display


def _lines(stream: TextIO) -> _Display:
    started: dict[str, float] = {}
    last = 0.0

    def display(phase: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        begun = started.setdefault(phase, now)
        if 0 < done < total and now - last < _LINE_EVERY_S:
            return
        last = now
        elapsed = now - begun
        left = f", {elapsed / done * (total - done):.0f} s left" if 0 < done < total else ""
        rate = f", {_rate(phase, done, elapsed)}" if done and elapsed else ""
        print(f"{_TITLES.get(phase, phase)}: {done}/{total}{rate}{left}", file=stream, flush=True)

    return display


def _rate(phase: str, done: int, elapsed_s: float) -> str:
    """Slow work in seconds a piece, fast work in pieces a second."""
    if not done or not elapsed_s:
        return ""
    unit = _UNITS.get(phase, "pieces")
    return f"{elapsed_s / done:.1f} s/{unit[:-1]}" if elapsed_s > done else f"{done / elapsed_s:.1f} {unit}/s"
