"""Step caches from the command line: what they left out is told and written down, and calibration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import wanrun
from tests.runtime.machines import keep
from wanrun.cli.main import main
from wanrun.request import resolve
from wanrun.video.provenance import read_provenance


@pytest.fixture(autouse=True)
def machine(home: Path) -> None:
    keep(home)


def test_what_a_cache_left_out_is_told_and_written_into_the_file(tmp_path: Path) -> None:
    arguments = ["run", "wan-toy", "a red ball", "--seed", "1", "--steps", "8", "--device", "cpu", "--cache"]
    cache = "easycache:threshold=5,warmup=0"
    told = CliRunner().invoke(main, [*arguments, cache, "-o", str(tmp_path / "a.mp4")])
    assert told.exit_code == 0, told.output
    assert "% of the forwards skipped" in told.output
    described = read_provenance(tmp_path / "a.mp4")
    counted = described["cache"]
    assert counted["forwards"] == 16
    assert counted["share"] == counted["skipped"] / 16 > 0
    assert described["request"]["cache"] == cache
    printed = CliRunner().invoke(main, [*arguments, "none", "--json", "-o", str(tmp_path / "b.gif")])
    assert "cache" not in json.loads(printed.stdout)


def test_what_was_measured_of_a_model_is_kept_with_it_and_used(tmp_path: Path) -> None:
    arguments = ["calibrate-cache", "wan-toy", "mine", "--prompt", "a red ball", "--steps", "6"]
    result = CliRunner().invoke(main, [*arguments, "--frames", "5"])
    assert result.exit_code == 0, result.output
    bundle = wanrun.load("mine")
    ratios = str(bundle.parameters["magcache"])
    assert f"PARAMETER magcache {ratios}" in result.output
    assert len(ratios.split(",")) == 5
    assert all(0.5 < float(ratio) < 1.5 for ratio in ratios.split(","))
    assert len(str(bundle.parameters["teacache"]).split(",")) == 5
    request = resolve(bundle, "a red ball", {"cache": "magcache:threshold=0.2"})
    assert request.cache == f"magcache:{ratios},threshold=0.2"
    own = resolve(bundle, "a red ball", {"cache": "magcache:0.9,threshold=0.2"})
    assert own.cache == "magcache:0.9,threshold=0.2"
    clip = wanrun.generate(bundle, "a red ball", steps=6, frames=5, cache="teacache:threshold=9,warmup=0")
    assert clip.provenance["cache"]["skipped"] > 0


def test_wan_toy_itself_is_calibrated() -> None:
    parameters = wanrun.load("wan-toy").parameters
    assert len(str(parameters["magcache"]).split(",")) == 39
    assert len(str(parameters["teacache"]).split(",")) == 5
