"""What is known of how good a model's videos are with which settings: its quality table, or rules.

A table is a YAML file that ``wanrun evaluate MODEL --keep`` writes, a row for each settings measured:

    of: sha256:…            the experts and adapters that it was measured with
    suite: toy
    rows:
    - {sampler: euler, schedule: linear, cache: none, steps: 10, score: 0.93, computed: 1.0}

``score`` is 0..1, more being better; ``computed`` is the part of the forwards that the step cache left.
Tables lie in ``$WANRUN_HOME/quality``, and beside the Modelfile of a shipped model.
"""

from __future__ import annotations

import hashlib
import json
import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from wanrun import settings
from wanrun.errors import InvalidRequest, WanrunError
from wanrun.modelfile import library
from wanrun.options import parse
from wanrun.store.durable import make_folder, store_errors, write_file
from wanrun.types import Bundle

_NAME = "quality.yaml"
_MOST_ROWS = 1000
#: Without a table: score by the part of the published steps, for a solver of second order. How much a step
#: cache leaves out is only known where it was measured, so rules name none.
_RULE = ((0.05, 0.3), (0.1, 0.6), (0.2, 0.85), (0.3, 0.93), (0.5, 0.98), (1.0, 1.0))
#: A model of so few steps was distilled for them, its own sigmas included.
_DISTILLED_STEPS = 8


@dataclass(frozen=True, slots=True)
class Row:
    """Settings, and what they are worth."""

    sampler: str
    schedule: str
    cache: str
    steps: int
    score: float
    computed: float = 1.0

    @property
    def way(self) -> tuple[str, str, str]:
        """All but the number of steps."""
        return self.sampler, self.schedule, self.cache


@dataclass(frozen=True, slots=True)
class Way:
    """A sampler, a schedule and a cache, measured at one or more numbers of ``steps``, ascending."""

    sampler: str
    schedule: str
    cache: str
    steps: tuple[int, ...]
    scores: tuple[float, ...]
    computed: tuple[float, ...]
    #: Whether the model was made for this number of steps alone.
    distilled: bool = False

    def score(self, steps: int) -> float:
        """What so many steps are worth: between those that were measured, as much as more than the most, and
        in proportion less than the fewest."""
        return min(1.0, steps / self.steps[0]) * _between(self.steps, self.scores, steps)

    def part(self, steps: int) -> float:
        """The part of the forwards that is computed."""
        return _between(self.steps, self.computed, steps)


@dataclass(frozen=True, slots=True)
class Table:
    """Everything that is known of a model; ``suite`` is "" where it was not measured."""

    ways: tuple[Way, ...]
    suite: str = ""

    @property
    def best(self) -> float:
        """The highest score that any settings reach."""
        return max(max(way.scores) for way in self.ways)


def find_table(bundle: Bundle) -> Table:
    """The bundle's table, or what rules say of it; a file that cannot be read is no reason not to run."""
    identity = identify(bundle)
    for path in _places(bundle):
        try:
            found = read(path, identity)
        except InvalidRequest:
            continue
        if found is not None:
            return found
    return by_rule(bundle)


def identify(bundle: Bundle) -> str:
    """What decides how good the videos are: the digest of the experts and their adapters."""
    files = [part.digest for part in bundle.experts.values()]
    adapters = [[each.role, each.scale, each.component.digest] for each in bundle.adapters]
    return "sha256:" + hashlib.sha256(json.dumps([files, adapters]).encode()).hexdigest()


def keep(bundle: Bundle, suite: str, row: Row) -> Path:
    """Add the row to the bundle's own table, in place of one of the same settings; where that lies.

    The table begins with the rows of a shipped one.
    """
    import yaml

    path, identity = _own(bundle), identify(bundle)
    others = next((found for place in _places(bundle) if (found := rows(place, identity))), [])
    known = [each for each in others if (each.way, each.steps) != (row.way, row.steps)]
    ordered = sorted([*known, row], key=lambda each: (each.way, each.steps))
    described = {"of": identity, "suite": suite, "rows": [asdict(each) for each in ordered]}
    with store_errors(f"cannot write {path}"):
        make_folder(path.parent)
        write_file(path, yaml.safe_dump(described, sort_keys=False, default_flow_style=None).encode())
    return path


def read(path: Path, identity: str) -> Table | None:
    """The table in ``path`` if it is of this model; InvalidRequest for one that is none."""
    found = sorted(rows(path, identity), key=lambda row: (row.way, row.steps))
    ways = tuple(_way(list(same)) for _, same in groupby(found, lambda row: row.way))
    return Table(ways, _load(path)["suite"]) if ways else None


def rows(path: Path, identity: str) -> list[Row]:
    """The rows in ``path`` if they are of this model, else none; InvalidRequest for what is no table."""
    if not path.is_file():
        return []
    described = _load(path)
    if described.get("of") != identity:
        return []
    found = described["rows"]
    if not isinstance(found, list) or not 0 < len(found) <= _MOST_ROWS:
        raise InvalidRequest(f"{path} has no rows")
    try:
        return [_row(each) for each in found]
    except (TypeError, ValueError, KeyError) as error:
        raise InvalidRequest(f"{path} has a row that is none: {error}") from error


def by_rule(bundle: Bundle) -> Table:
    """What usually holds: more steps are better up to the published number, and a cache costs little.

    A model for a few steps is as it is: another number of steps is not what it was distilled for.
    """
    steps = int(bundle.parameters["steps"])
    sampler = str(bundle.parameters.get("sampler", "unipc"))
    schedule = str(bundle.parameters.get("schedule", "unipc" if parse(sampler).name == "unipc" else "linear"))
    if steps <= _DISTILLED_STEPS:
        return Table((Way(sampler, schedule, "none", (steps,), (1.0,), (1.0,), distilled=True),))
    points = {max(1, round(part * steps)): score for part, score in _RULE}
    counts, scores = tuple(points), tuple(points.values())
    return Table((Way(sampler, schedule, "none", counts, scores, (1.0,) * len(counts)),))


def _places(bundle: Bundle) -> Iterator[Path]:
    yield _own(bundle)
    yield from library.beside(_NAME)


def _own(bundle: Bundle) -> Path:
    return settings.home() / "quality" / f"{identify(bundle).removeprefix('sha256:')[:32]}.yaml"


def _load(path: Path) -> dict[str, Any]:
    import yaml  # here, so that runs without advice start without it

    try:
        described = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"{path} cannot be read: {error}") from error
    known = isinstance(described, dict) and {"of", "suite", "rows"} <= described.keys()
    if not known or not isinstance(described["suite"], str):
        raise InvalidRequest(f"{path} is no quality table")
    return dict(described)


def _way(same: Sequence[Row]) -> Way:
    """What is known of the rows' way."""
    columns = zip(*((row.steps, row.score, row.computed) for row in same), strict=True)
    steps, scores, computed = (tuple(column) for column in columns)
    return Way(*same[0].way, steps, scores, computed)


def _row(values: Mapping[str, Any]) -> Row:
    row = Row(**values)
    for name in row.way:
        try:
            parse(name)
        except WanrunError as error:
            raise ValueError(str(error)) from error
    numbers = (row.score, row.computed)
    if type(row.steps) is not int or not 1 <= row.steps <= 1000:
        raise ValueError(f"steps are {row.steps!r:.40}")
    if not all(isinstance(each, int | float) and math.isfinite(each) and 0 <= each <= 1 for each in numbers):
        raise ValueError(f"score and computed are {numbers!r:.60}")
    return row


def _between(steps: Sequence[int], values: Sequence[float], wanted: int) -> float:
    """Linear in the logarithm of steps between the points; outside them as at the nearest."""
    above = bisect_left(steps, wanted)
    if above in (0, len(steps)):
        return values[min(above, len(steps) - 1)]
    low, high = steps[above - 1], steps[above]
    share = math.log(wanted / low) / math.log(high / low)
    return values[above - 1] + share * (values[above] - values[above - 1])
