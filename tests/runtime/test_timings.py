"""What runs took: read off their progress, kept, and believed only where it still holds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.runtime.test_quality import BUNDLE, OTHER
from tests.runtime.test_runs import REQUEST
from wanrun.runtime import timings
from wanrun.runtime.timings import Stopwatch, Taken, find, keep


class Clock:
    """Stands for ``time``: what passes on the wall, of which the processor gets a part."""

    def __init__(self, part: float) -> None:
        self.now, self.part = 0.0, part

    def perf_counter(self) -> float:
        return self.now

    def process_time(self) -> float:
        return self.part * self.now


def run(watch: Stopwatch, clock: Clock, steps: list[float], decode: float) -> None:
    watch("text", 0, 0)
    clock.now += 1
    watch("denoise", 0, len(steps))
    for index, seconds in enumerate(steps):
        clock.now += seconds
        watch("denoise", index + 1, len(steps))
    for index in range(3):
        clock.now += decode / 2 if index else 0.0
        watch("decode", index, 2)


@pytest.mark.parametrize(
    ("on_cpu", "part", "factor"), [(True, 2.0, 1.0), (True, 0.5, 0.5), (False, 0.5, 1.0)]
)
def test_a_run_is_divided(on_cpu: bool, part: float, factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first step loads an expert and so does the fourth."""
    clock = Clock(part)
    monkeypatch.setattr(timings, "time", clock)
    told: list[tuple[str, int, int]] = []
    watch = Stopwatch(lambda *event: told.append(event), on_cpu)
    run(watch, clock, [3.0, 2.0, 2.0, 5.0, 2.0, 2.0], 1.0)
    taken = watch.taken(12)
    assert taken is not None
    expected = [factor * seconds for seconds in (4.0, 1.0, 1.0)]
    assert [taken.load, taken.forward, taken.decode] == pytest.approx(expected)
    assert told[0] == ("text", 0, 0)
    assert told[-1] == ("decode", 2, 2)
    few = Stopwatch(lambda *event: None, on_cpu)
    run(few, clock, [1.0, 1.0], 1.0)
    assert few.taken(2) is None


def test_kept_for_what_decides_the_time(home: Path) -> None:
    taken = Taken(2.0, 0.5, 1.0)
    keep(BUNDLE, REQUEST, "cpu", taken)
    assert find(BUNDLE, replace(REQUEST, steps=99, sampler="euler", seed=1, prompt="x"), "cpu") == taken
    for other in (
        replace(REQUEST, latent_shape=(16, 5, 8, 16)),
        replace(REQUEST, precision="fp32"),
        replace(REQUEST, guidance_low=1.0),
        replace(REQUEST, decoder="tiny"),
        replace(REQUEST, lora=()),
    ):
        assert find(BUNDLE, other, "cpu") is None
    assert find(OTHER, REQUEST, "cpu") is None
    assert find(BUNDLE, REQUEST, "cuda") is None
    keep(BUNDLE, REQUEST, "cpu", Taken(4.0, 1.5))
    assert find(BUNDLE, REQUEST, "cpu") == Taken(3.0, 1.0, 1.0)


@pytest.mark.parametrize(
    "change",
    [
        {"of": {}},
        {"taken": {}},
        {"taken": [1, 2]},
        *({"taken": {"load": bad, "forward": 1.0}} for bad in (-1.0, "1", 1e400, True)),
    ],
)
def test_what_does_not_hold_is_not_believed(home: Path, change: dict[str, object]) -> None:
    keep(BUNDLE, REQUEST, "cpu", Taken(2.0, 0.5, 1.0))
    (path,) = (home / "cache" / "timings").iterdir()
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert find(BUNDLE, REQUEST, "cpu") is None
    path.write_text("{" * 3)
    assert find(BUNDLE, REQUEST, "cpu") is None
