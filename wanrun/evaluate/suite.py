"""What every suite of ``wanrun evaluate`` is: a function that makes a model's videos and measures them.

``wanrun.cli.evaluate`` prints the table and its notes, and writes report.json and sheet.png.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from wanrun.types import Bundle, Progress

if TYPE_CHECKING:
    from wanrun.types import Frame

#: (title, names of what is wrong with it, frames)
Strip = tuple[str, "Sequence[str]", "Sequence[Frame]"]


@dataclass(frozen=True, slots=True)
class Report:
    """What a suite found."""

    #: Everything as plain values, for JSON. ``score`` is 0..1, more being better, and ``computed`` the part
    #: of the forwards that step caches left, if the suite says how good videos are.
    values: Mapping[str, Any]
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    #: One line below the table.
    note: str = ""
    #: For the contact sheet.
    strips: Sequence[Strip] = ()


class Suite(Protocol):
    """A plain function ``measure`` in a module of its own, listed in ``wanrun.cli.evaluate``."""

    def __call__(
        self, bundle: Bundle, settings: Mapping[str, Any], limit: int | None, progress: Progress, device: str
    ) -> Report:
        """Measure ``bundle`` with ``settings`` (see ``wanrun.request.resolve``).

        ``limit`` is how many of the suite's prompts are used, evenly; None is all.
        """
        ...
