"""Parts that stay open make what parts that are opened for each video make."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

import wanrun
from wanrun import pipeline
from wanrun.request import resolve
from wanrun.runtime import runs
from wanrun.runtime.series import Series
from wanrun.types import Tally


def test_each_video_gets_the_parts_that_it_needs(tmp_path: Path) -> None:
    bundle = wanrun.load("wan-toy")
    asked = {"steps": 2, "size": (32, 32), "frames": 5, "seed": 1, "precision": "fp32"}
    plain = resolve(bundle, "a red ball", asked)
    wanted = (plain, replace(plain, cross_frame=4.0), replace(plain, seed=2))
    with Series("cpu") as series:
        found = [
            np.stack(
                list(series.frames(runs.begin(tmp_path, bundle, each), bundle, each, None, Tally(), _quiet))
            )
            for each in wanted
        ]
    for frames, request in zip(found, wanted, strict=True):
        assert np.array_equal(frames, np.stack(list(pipeline.run(bundle, request, device="cpu"))))
    assert not np.array_equal(found[0], found[1])


def _quiet(phase: str, done: int, total: int) -> None:
    pass
