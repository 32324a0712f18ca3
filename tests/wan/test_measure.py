"""The measurements of Wan's parts, whatever they come to."""

from __future__ import annotations

import pytest

from wanrun.wan import measure


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_rate_is_measured(precision: str) -> None:
    found = measure.rates(precision, "cpu")
    convolution = found.pop("convolution")
    assert isinstance(convolution, dict)
    assert all(speed > 0 for speed in convolution.values())
    assert set(found) == {"linear", "attention", "block_s", "element_s", "tiny", "prepare_s"}
    for name in ("linear", "attention", "tiny"):
        speed = found[name]
        assert isinstance(speed, float)
        assert speed > 0


def test_work_is_timed_after_it_has_warmed_up() -> None:
    calls: list[int] = []
    assert measure.shortest(lambda: calls.append(1), "cpu", repeats=3) >= 0
    assert len(calls) == 4


def test_the_cpu_has_no_memory_of_its_own() -> None:
    assert measure.device_bytes("cpu") == 0
