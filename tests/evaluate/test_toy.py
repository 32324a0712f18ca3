"""The suite of wan-toy: its prompts, its scores and its report."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import yaml
from click.testing import CliRunner
from PIL import Image

from tests.recipe import modules
from wanrun.cli.main import main
from wanrun.evaluate.judge import Seen, SeenObject
from wanrun.evaluate.shapes import Box
from wanrun.evaluate.toy import Asked, Verdict, rates, score, spread, steadiness, suite


def test_every_prompt_is_one_that_training_never_showed() -> None:
    asked = suite()
    assert Counter(len(item.objects) for item in asked) == {1: 100, 2: 40}
    with modules() as recipe:
        world = recipe["world"]
        for item in asked:
            assert any(world.held_out(colour, shape, item.ground) for colour, shape in item.objects)
        file = Path(__file__).parent.parent.parent / "wanrun" / "evaluate" / "toy.yaml"
        assert recipe["suite"].prompts() == yaml.safe_load(file.read_text("utf-8"))


def seen(*objects: tuple[str, str], relation: tuple[str, str, str] | None = None) -> Seen:
    box = Box(0, 0, 1, 1)
    things = tuple(SeenObject(colour, shape, "rolling", (0.5, 0.5), 1.0, box, 0) for colour, shape in objects)
    return Seen("blue", things, len(things), relation, 0.5)


def test_a_lone_object_is_scored_by_what_was_asked() -> None:
    asked = Asked("a red ball rolling on blue", 0, (("red", "ball"),), "", "rolling", "blue")
    assert all(score(asked, seen(("red", "ball"))).values())
    assert set(score(asked, seen(("red", "ball")))) == {"colour", "ground", "shape", "motion", "count"}
    wrong = score(asked, seen(("green", "star"), ("red", "ball")))
    assert [name for name, good in wrong.items() if good] == ["ground", "motion"]
    assert not any(score(asked, seen())[name] for name in ("colour", "shape", "motion", "count"))


def test_swapped_colours_are_right_colours_wrongly_bound() -> None:
    asked = Asked("…", 0, (("red", "ball"), ("green", "star")), "left of", "rolling", "blue")
    good = score(asked, seen(("green", "star"), ("red", "ball"), relation=("red", "left of", "green")))
    assert all(good.values())
    swapped = score(asked, seen(("green", "ball"), ("red", "star"), relation=("green", "left of", "red")))
    assert [name for name, right in swapped.items() if not right] == ["binding", "relation"]


def test_rates_count_only_what_was_asked() -> None:
    one = Asked("…", 0, (("red", "ball"),), "", "rolling", "blue")
    two = Asked("…", 0, (("red", "ball"), ("green", "star")), "above", "rolling", "blue")
    looks = [seen(("red", "ball")), seen(("red", "star")), seen(("red", "ball"), ("green", "star"))]
    verdicts = [
        Verdict(item, look, score(item, look)) for item, look in zip((one, one, two), looks, strict=True)
    ]
    found = rates(verdicts)
    assert found["one object"]["shape"] == (1, 2)
    assert "binding" not in found["one object"]
    assert found["two objects"]["binding"] == (1, 1)
    assert found["two objects"]["relation"] == (0, 1)
    assert steadiness(verdicts) == {"flicker": 0.5, "identity": 1.0}


def test_a_limit_takes_prompts_from_the_whole_suite() -> None:
    assert len(spread(suite(), None)) == 140
    chosen = spread(suite(), 7)
    assert len(chosen) == 7
    assert {len(item.objects) for item in chosen} == {1, 2}


def test_the_command_writes_a_table_a_report_and_a_sheet(tmp_path: Path) -> None:
    folder = tmp_path / "report"
    result = CliRunner().invoke(
        main, ["evaluate", "wan-toy", "--limit", "4", "--steps", "2", "-o", str(folder)]
    )
    assert result.exit_code == 0, result.output
    assert "one object" in result.output
    assert "two objects" in result.output
    report = json.loads((folder / "report.json").read_text())
    assert report["settings"] == {"steps": 2}
    assert len(report["clips"]) == 4
    for clip in report["clips"]:
        assert set(clip["right"]) >= {"colour", "ground", "shape", "motion", "count"}
    with Image.open(folder / "sheet.png") as sheet:
        assert sheet.width > 400


def test_an_unknown_suite_and_an_unknown_model_are_refused(tmp_path: Path) -> None:
    assert CliRunner().invoke(main, ["evaluate", "wan-toy", "--suite", "nope"]).exit_code == 2
    result = CliRunner().invoke(main, ["evaluate", "no-such-model", "-o", str(tmp_path / "x")])
    assert result.exit_code == 1
    assert not (tmp_path / "x").exists()
