"""``--target`` and ``--quality`` where nothing runs: what is chosen is said and planned."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.cli.conftest import refused, wanrun
from tests.runtime.machines import keep
from wanrun.runtime import quality
from wanrun.runtime.quality import Row

_SIZE = ("--size", "512x512")


@pytest.fixture(autouse=True)
def measured(home: Path) -> None:
    """A machine whose numbers are fixed, on which a trial would take too long to be made."""
    keep(home)


def planned(*words: str) -> tuple[float, str]:
    """Seconds of the plan, and what was chosen."""
    result = wanrun("plan", "wan-toy", *words, "--json")
    assert result.exit_code == 0, result.output
    chosen = re.search(r"Note: (chosen: .*)", result.stderr)
    return json.loads(result.stdout)["seconds"], "" if chosen is None else chosen[1]


def test_a_target_is_what_the_plan_takes() -> None:
    seconds, chosen = planned(*_SIZE, "--target", "60s")
    assert 0.85 * 60 <= seconds <= 60
    assert re.match(
        r"chosen: sampler \w+, schedule \w+, steps \d+, cache .*, decoder vae; about \d+ s; costs", chosen
    )
    fixed, named = planned(*_SIZE, "--target", "1m", "--sampler", "euler", "--steps", "3")
    assert fixed < 60
    assert "sampler" not in named.partition(";")[0]
    assert "steps" not in named.partition(";")[0]
    assert planned()[1] == ""


def test_levels_in_their_order() -> None:
    taken = [planned("--quality", level)[0] for level in ("draft", "good", "best")]
    assert taken == sorted(taken)
    assert taken[0] < taken[2]


def test_what_was_measured_is_what_counts(home: Path) -> None:
    from wanrun import load

    for steps, score in ((4, 0.5), (9, 0.97), (30, 0.97)):
        quality.keep(load("wan-toy"), "toy", Row("dpm++2m", "linear", "none", steps, score))
    assert "sampler dpm++2m, schedule linear, steps 9," in planned("--quality", "best")[1]
    assert "measured by the suite toy" in planned("--quality", "draft")[1]


def test_what_cannot_be_is_refused() -> None:
    assert "it takes" in refused("plan", "wan-toy", *_SIZE, "--target", "1s")
    assert "target must be a duration" in refused("plan", "wan-toy", "--target", "soon")
    assert "target must be above 0" in refused("run", "wan-toy", "x", "--target", "0s")
    assert wanrun("plan", "wan-toy", "--quality", "great").exit_code == 2
