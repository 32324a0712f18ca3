"""What is measured for the caches, against a model of which it is known."""

from __future__ import annotations

import pytest

from wanrun.errors import InvalidRequest
from wanrun.evaluate.steps import _Step, fit


def test_ratios_are_means_and_the_polynomial_goes_through_steps_of_one_expert() -> None:
    def steps(times: list[float], scale: float) -> list[_Step]:
        return [_Step(scale * (1 - t), 3 * t**2 + 0.5 * t + 0.01, t, True) for t in times]

    times = [0.01 * index for index in range(1, 12)]
    switch = _Step(9.0, 7.0, 0.5, same_expert=False)
    found = fit([[*steps(times, 1.0), switch], [*steps(times, 0.8), switch]])
    assert found.ratios == pytest.approx([*(0.9 * (1 - t) for t in times), 9.0])
    for t in times:
        value = sum(c * t**power for c, power in zip(found.coefficients, (4, 3, 2, 1, 0), strict=True))
        assert value == pytest.approx(3 * t**2 + 0.5 * t + 0.01, rel=1e-6)


def test_parameters_are_text_that_a_modelfile_takes() -> None:
    from wanrun.modelfile.parameters import parse_parameter

    found = fit([[_Step(0.98765432, 0.1 * t, t, True) for t in (0.1, 0.2, 0.3, 0.4, 0.5, 0.7)]])
    for name, text in found.parameters().items():
        assert parse_parameter(name, text) == text
    assert found.parameters()["magcache"].startswith("0.98765,")


def test_too_few_steps_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="more steps"):
        fit([[_Step(0.9, 0.1, 0.1, same_expert=False)]])
