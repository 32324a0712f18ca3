"""The suite that compares models: wan-toy against itself and against a coarse copy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image

import wanrun
from tests.bundles import make_parts
from wanrun.cli.main import main
from wanrun.convert.prompts import shipped
from wanrun.errors import InvalidRequest
from wanrun.evaluate import fidelity
from wanrun.evaluate.fidelity import difference
from wanrun.modelfile import grammar
from wanrun.pipeline import silent
from wanrun.store.creation import create
from wanrun.store.store import open_store


def run(*arguments: object) -> Any:
    return CliRunner().invoke(main, ["evaluate", "--suite", "fidelity", *map(str, arguments)])


def test_models_are_compared_with_the_first(tmp_path: Path) -> None:
    result = run(
        "wan-toy", "wan-toy:q8_0", "wan-toy:q4_k_m", "--limit", 1, "--steps", 4, "-o", tmp_path / "out"
    )
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0].split()[:4] == ["MODEL", "EXPERTS", "ERROR", "COSINE"]
    same, coarse = (
        json.loads((tmp_path / "out" / f"wan-toy-{kind}-fidelity" / "report.json").read_text())
        for kind in ("q8_0", "q4_k_m")
    )
    assert same["reference"]["name"] == coarse["reference"]["name"]
    assert (same["mean"]["error"], same["mean"]["ssim"], same["mean"]["psnr"]) == (0, 1, None)
    assert same["reference"]["toy"] == same["model"]["toy"]
    assert 0.01 < coarse["mean"]["error"] < 1
    assert 10 < coarse["mean"]["psnr"] < 60
    assert coarse["mean"]["lpips"] is None
    assert len(coarse["videos"]) == 1
    for video in coarse["videos"]:
        assert len(video["drift"]) == 4
        assert video["drift"][-1] == pytest.approx(video["error"])
        assert video["drift"][0] < video["drift"][-1]
    assert coarse["model"]["expert_bytes"] < coarse["reference"]["expert_bytes"]
    assert coarse["model"]["peak_bytes"] > 1e7
    with Image.open(tmp_path / "out" / "wan-toy-q4_k_m-fidelity" / "sheet.png") as sheet:
        assert sheet.height > 3 * 64


def test_the_difference_map_is_black_where_nothing_differs() -> None:
    a = np.full((4, 4, 3), 100, np.uint8)
    b = a.copy()
    b[0, 0], b[1, 1] = 90, 255
    drawn = difference(b, a)
    assert drawn[0, 0].tolist() == [40, 40, 40]
    assert drawn[1, 1].tolist() == [255, 255, 255]
    assert drawn[2:].max() == 0


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    assert run("wan-toy").exit_code == 2
    assert CliRunner().invoke(main, ["evaluate", "wan-toy", "wan-toy:q8_0"]).exit_code == 2
    parts = make_parts(tmp_path)
    create(open_store(), "tiny", grammar.read(parts.modelfile), parts.folder)
    with fidelity.against(wanrun.load("wan-toy")) as measure, pytest.raises(InvalidRequest, match="one size"):
        measure(wanrun.load("tiny"), {"steps": 1}, 1, silent, "cpu")


def test_the_prompts_are_not_those_of_calibration() -> None:
    file = Path(fidelity.__file__).with_name("fidelity.yaml")
    prompts = yaml.safe_load(file.read_text("utf-8"))
    assert len(set(prompts)) == 16
    assert not set(prompts) & set(shipped("video"))
