"""Shows how far a run is: a bar per phase on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

import click

from wanrun.cli.tables import human_bytes, printable
from wanrun.types import Progress

#: First words of the phases that count bytes.
_IN_BYTES = ("pulling", "pushing", "verifying", "reading", "copying", "writing", "quantising", "converting")
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
def goes_on() -> Iterator[None]:
    """Says at Ctrl-C that nothing is lost, of work that keeps what is finished."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo("Interrupted: the same command goes on where it stopped.", err=True)
        raise SystemExit(130) from None


@contextmanager
def _bars(stream: TextIO) -> Iterator[_Display]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:<18}"),
        BarColumn(),
        TextColumn("{task.fields[amount]}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=Console(file=stream)) as bars:
        tasks: dict[str, tuple[TaskID, float, int]] = {}

        def display(phase: str, done: int, total: int) -> None:
            amount = _amount(phase, done, total)
            new = phase not in tasks
            if new:
                task = bars.add_task(
                    escape(_title(phase)), total=total or None, completed=done, amount=amount, rate=""
                )
                tasks[phase] = task, time.monotonic(), _first(phase, done)
            task, started, first = tasks[phase]
            rate = "" if new else _rate(phase, done - first, time.monotonic() - started)
            bars.update(task, completed=done, total=total or None, amount=amount, rate=rate)

        yield display


def _lines(stream: TextIO) -> _Display:
    started: dict[str, tuple[float, int]] = {}
    last = 0.0

    def display(phase: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        begun, first = started.setdefault(phase, (now, _first(phase, done)))
        if done > 0 and done != total and now - last < _LINE_EVERY_S:
            return
        last = now
        elapsed, new = now - begun, done - first
        left = f", {elapsed / new * (total - done):.0f} s left" if new > 0 and done < total else ""
        rate = f", {_rate(phase, new, elapsed)}" if new > 0 and elapsed else ""
        print(f"{_title(phase)}: {_amount(phase, done, total)}{rate}{left}", file=stream, flush=True)

    return display


def _in_bytes(phase: str) -> bool:
    return phase.split(" ", 1)[0] in _IN_BYTES


def _title(phase: str) -> str:
    return _TITLES.get(phase) or printable(phase)


def _first(phase: str, done: int) -> int:
    """What was there before: a download goes on where it stopped, which must not count as speed."""
    return done if _in_bytes(phase) else 0


def _amount(phase: str, done: int, total: int) -> str:
    if _in_bytes(phase):
        return f"{human_bytes(done)}/{human_bytes(total)}" if total else human_bytes(done)
    return f"{done}/{total}"


def _rate(phase: str, done: int, elapsed_s: float) -> str:
    """Slow work in seconds a piece, fast work in pieces a second."""
    if done <= 0 or not elapsed_s:
        return ""
    if _in_bytes(phase):
        return f"{human_bytes(int(done / elapsed_s))}/s"
    unit = _UNITS.get(phase, "pieces")
    return f"{elapsed_s / done:.1f} s/{unit[:-1]}" if elapsed_s > done else f"{done / elapsed_s:.1f} {unit}/s"
