"""Text tables, and sizes and times as people say them, as Ollama prints them (ollama/ollama, cmd, format)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_GAP = 4
_BYTES = ("B", "KB", "MB", "GB", "TB", "PB")
_COUNTS = ("", "K", "M", "B", "T")
_MINUTE, _HOUR, _DAY, _WEEK, _YEAR = 60, 3600, 86_400, 604_800, 31_536_000


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns four spaces apart under ``header``, which is there even without rows."""
    return _align([header, *rows], "")


def section(title: str, rows: Sequence[Sequence[str]]) -> str:
    """A titled block of ``show``: the title indented by two, its rows by four."""
    return f"  {title}\n{_align(rows, '    ')}\n"


def human_bytes(size: int) -> str:
    """``96 B``, ``1.6 GB``, ``42 GB``: decimal units, one digit after the point below ten unless zero."""
    amount, unit = _scaled(size, _BYTES)
    return f"{amount} {unit}"


def human_count(count: int) -> str:
    """``14.3B``: parameters, rounded to one digit after the point."""
    power = 0
    while count >= 1000 ** (power + 1) and power < len(_COUNTS) - 1:
        power += 1
    return f"{count / 1000**power:.1f}{_COUNTS[power]}" if power else str(count)


def human_time(seconds: float) -> str:
    """How long ago something was that is ``seconds`` in the past."""
    count, unit = _duration(max(0, int(seconds)))
    return f"{unit} ago" if not count else f"{count} {unit} ago"


def human_until(seconds: float) -> str:
    """When something will be that is ``seconds`` from now."""
    if seconds < 0:
        return "Stopping..."
    if seconds > 20 * _YEAR:
        return "Forever"
    count, unit = _duration(int(seconds))
    words = f"{count} {unit}" if count else unit.removesuffix(" ago")
    return f"{words} from now"


def printable(text: str) -> str:
    """``text`` on one line without what could steer a terminal: control characters are shown as escapes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def first_lines(text: str, count: int = 2) -> list[list[str]]:
    """Rows of the first lines of ``text`` that are not blank, and ``...`` where more follow."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return [[line] for line in lines[:count]] + ([["..."]] if len(lines) > count else [])


def _align(rows: Sequence[Sequence[str]], indent: str) -> str:
    cells = [[printable(cell) for cell in row] for row in rows]
    columns = max((len(row) for row in cells), default=0)
    widths = [max((len(row[i]) for row in cells if i < len(row)), default=0) for i in range(columns)]
    lines = (
        indent + (" " * _GAP).join(cell.ljust(width) for cell, width in zip(row, widths, strict=False))
        for row in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def _scaled(size: int, units: Sequence[str]) -> tuple[str, str]:
    power = 0
    while size >= 1000 ** (power + 1) and power < len(units) - 1:
        power += 1
    tenths = size * 10 // 1000**power
    whole, tenth = divmod(tenths, 10)
    return (f"{whole}.{tenth}" if whole < 10 and tenth else str(whole)), units[power]


def _duration(seconds: int) -> tuple[int, str]:
    for limit, answer in (
        (1, (0, "Less than a second")),
        (2, (1, "second")),
        (_MINUTE, (seconds, "seconds")),
        (2 * _MINUTE, (0, "About a minute")),
        (_HOUR, (seconds // _MINUTE, "minutes")),
        (2 * _HOUR, (0, "About an hour")),
        (2 * _DAY, (seconds // _HOUR, "hours")),
        (2 * _WEEK, (seconds // _DAY, "days")),
        (60 * _DAY, (seconds // _WEEK, "weeks")),
        (2 * _YEAR, (seconds // (30 * _DAY), "months")),
    ):
        if seconds < limit:
            return answer
    return seconds // _YEAR, "years"
