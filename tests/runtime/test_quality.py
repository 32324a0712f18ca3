"""Quality tables: what is kept, what is believed, and what rules say where there is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from wanrun.errors import InvalidRequest
from wanrun.modelfile import library
from wanrun.runtime.quality import Row, Way, by_rule, find_table, identify, keep, read
from wanrun.types import Adapter, Bundle, Component

BUNDLE = Bundle(
    "toy",
    {"diffusion": Component("diffusion", Path("a"), "sha256:" + "1" * 64, 1, "a")},
    {"steps": 20, "sampler": "euler"},
)
OTHER = replace(
    BUNDLE, components={"diffusion": Component("diffusion", Path("b"), "sha256:" + "2" * 64, 1, "b")}
)


def test_rows_are_kept_and_replaced(home: Path) -> None:
    first = Row("euler", "linear", "none", 10, 0.8)
    path = keep(BUNDLE, "toy", first)
    keep(BUNDLE, "toy", Row("euler", "linear", "none", 4, 0.5))
    keep(BUNDLE, "toy", Row("unipc", "unipc", "easycache:threshold=0.1", 20, 0.9, 0.6))
    assert keep(BUNDLE, "toy", replace(first, score=0.85)) == path
    table = find_table(BUNDLE)
    assert table.suite == "toy"
    assert table.best == 0.9
    assert table.ways == (
        Way("euler", "linear", "none", (4, 10), (0.5, 0.85), (1.0, 1.0)),
        Way("unipc", "unipc", "easycache:threshold=0.1", (20,), (0.9,), (0.6,)),
    )
    assert find_table(OTHER).suite == ""
    adapter = Adapter("", 1.0, Component("adapter", Path("c"), "sha256:" + "3" * 64, 1, "c"))
    assert identify(replace(BUNDLE, adapters=(adapter,))) != identify(BUNDLE)


def test_scores_between_what_was_measured() -> None:
    way = Way("euler", "linear", "none", (4, 16), (0.4, 0.8), (1.0, 0.5))
    assert [way.score(steps) for steps in (2, 4, 8, 16, 1000)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8])
    assert [way.part(steps) for steps in (2, 4, 8, 16, 1000)] == pytest.approx([1, 1, 0.75, 0.5, 0.5])


_SOUND = "sampler: euler, schedule: linear, cache: none, steps: 4, score: 0.5"
_BAD = ("computed: .nan", "computed: 2", "steps: 0", "steps: 4.5", "score: x", "cache: '../x'", "more: 1")


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "7", "of: x", "{of: I, suite: toy, rows: []}", "{of: I, suite: 3, rows: [{}]}", "\x00",
        "of: !!python/object/apply:os.system ['true']",
        "{of: I, suite: toy, rows: 3}", "{of: I, suite: toy, rows: [{sampler: euler}]}", "{" * 2000,
        *(f"{{of: I, suite: toy, rows: [{{{_SOUND}, {bad}}}]}}" for bad in _BAD),
    ],
)  # fmt: skip
def test_a_damaged_table_is_no_reason_not_to_run(home: Path, text: str) -> None:
    path = keep(BUNDLE, "toy", Row("euler", "linear", "none", 10, 0.8))
    path.write_text(text.replace("I,", f'"{identify(BUNDLE)}",'))
    with pytest.raises(InvalidRequest):
        if read(path, identify(BUNDLE)) is None:
            raise InvalidRequest("it is another model's")
    assert find_table(BUNDLE).suite == ""


def test_rules() -> None:
    (way,) = by_rule(BUNDLE).ways
    assert (way.sampler, way.schedule, way.cache) == ("euler", "linear", "none")
    assert way.steps[0] == 1
    assert way.steps[-1] == 20
    assert list(way.scores) == sorted(way.scores)
    assert way.score(20) == 1.0
    few = replace(BUNDLE, parameters={"steps": 4, "sampler": "euler", "schedule": "custom:1,0.5,0"})
    (made_for,) = by_rule(few).ways
    assert (made_for.steps, made_for.schedule, made_for.distilled) == ((4,), "custom:1,0.5,0", True)
    (usual,) = by_rule(replace(BUNDLE, parameters={"steps": 50})).ways
    assert (usual.sampler, usual.schedule) == ("unipc", "unipc")


def test_shipped_tables_are_sound() -> None:
    for path in library.beside("quality.yaml"):
        of = yaml.safe_load(path.read_text("utf-8"))["of"]
        assert read(path, of) is not None
