"""Forecasts against the plan and against what runs took, and a real trial."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

import wanrun
from tests.runtime.machines import MACHINE
from wanrun.request import resolve
from wanrun.runtime import timings
from wanrun.runtime.estimate import Estimator, evaluations
from wanrun.runtime.forecast import Forecaster
from wanrun.runtime.timings import Taken
from wanrun.types import Bundle, GenerationRequest


@pytest.fixture
def toy(home: Path) -> Bundle:
    return wanrun.load("wan-toy")


def forecaster(toy: Bundle, since: float | None = None) -> Forecaster:
    return Forecaster(Estimator(toy, MACHINE, 8 * 10**9, True), "cpu", since)


def asked(toy: Bundle, steps: int = 10) -> GenerationRequest:
    return resolve(toy, "a red ball", {"seed": 1, "steps": steps, "size": (32, 32), "frames": 5})


def test_without_a_run_it_is_the_plan(toy: Bundle) -> None:
    request = asked(toy)
    planned = Estimator(toy, MACHINE, 8 * 10**9, True).plan(request)
    experts = sum(phase.seconds for phase in planned.phases if phase.name.endswith("noise"))
    assert forecaster(toy).seconds(request) == pytest.approx(planned.seconds)
    assert forecaster(toy).seconds(request, 0.25) == pytest.approx(planned.seconds - 0.75 * experts)
    began = time.process_time()
    assert planned.seconds < forecaster(toy, began - 4.0).seconds(request) - 4.0 < planned.seconds + 30.0


def test_with_one_it_is_what_that_took(toy: Bundle) -> None:
    request = asked(toy)
    phases = {
        phase.name: phase.seconds for phase in Estimator(toy, MACHINE, 8 * 10**9, True).plan(request).phases
    }
    timings.keep(toy, asked(toy, 3), "cpu", Taken(2.0, 0.5, 3.0))
    denoising = 2.0 + 0.5 * sum(evaluations(request))
    start = phases["start"] + phases["text"] + 3.0 + phases["writing"]
    assert forecaster(toy).seconds(request) == pytest.approx(start + denoising)
    assert forecaster(toy).seconds(request, 0.5) == pytest.approx(start + 1.0 + denoising / 2)
    assert forecaster(toy).seconds(replace(request, steps=20)) > forecaster(toy).seconds(request) + 4


def test_a_trial_makes_the_shape_known(toy: Bundle) -> None:
    request = asked(toy)
    found = forecaster(toy, time.process_time())
    found.try_out(request, 1e-6)  # too little time to try anything
    assert timings.find(toy, request, "cpu") is None
    found.try_out(request, 1000.0)
    taken = timings.find(toy, request, "cpu")
    assert taken is not None
    assert taken.forward > 0
    assert taken.decode is None
    known = forecaster(toy).seconds(request)
    found.try_out(request, 1000.0)  # it is known now
    assert forecaster(toy).seconds(request) == known
