"""The suite ``temporal``: measures of clips that are drawn, and the command's report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from wanrun.cli.main import main
from wanrun.evaluate.temporal import Steadiness, look, mean
from wanrun.evaluate.toy import Asked

ASKED = Asked("a red square moving right on black", 0, (("red", "square"),), "", "moving right", "black")


def clip(step: float = 2.0, noise: float = 0.0, turns: bool = False) -> list[np.ndarray]:
    """A red square that moves over black, over flickering ground, or becoming green halfway."""
    rng = np.random.default_rng(6)
    frames = []
    for index in range(13):
        frame = np.full((64, 64, 3), 14.0)
        left = 8 + step * index
        place = np.clip(np.arange(64)[None] - left + 1, 0, 1) * np.clip(left + 16 - np.arange(64)[None], 0, 1)
        cover = place * ((np.arange(64) >= 24) & (np.arange(64) < 40))[:, None]
        colour = (30, 170, 60) if turns and index > 6 else (220, 30, 35)
        frame += cover[..., None] * (np.array(colour) - frame)
        frame += noise * rng.standard_normal(frame.shape)
        frames.append(frame.round().clip(0, 255).astype(np.uint8))
    return frames


def test_a_clean_clip_is_steady_and_its_movement_is_known() -> None:
    found = look(ASKED, clip())
    assert found.flicker == 0
    assert found.warping < 1.0
    assert found.identity == 1
    assert found.motion == 1
    assert found.movement == pytest.approx(2.0, abs=0.7)


def test_flicker_shows_in_flicker_and_warping_and_only_there() -> None:
    clean, noisy = look(ASKED, clip()), look(ASKED, clip(noise=3.0))
    assert noisy.flicker > 2.0
    assert noisy.warping > clean.warping + 1.0
    assert (noisy.identity, noisy.motion) == (1, 1)


def test_more_movement_counts_more_and_the_wrong_motion_not() -> None:
    assert look(ASKED, clip(step=3.0)).movement > look(ASKED, clip(step=1.0)).movement
    still = look(ASKED, clip(step=0.0))
    assert still.movement < 0.2
    assert still.motion == 0


def test_an_object_that_changes_has_lost_its_identity() -> None:
    assert look(ASKED, clip(turns=True)).identity < 0.7


def test_means_leave_out_what_has_no_value() -> None:
    found = mean([Steadiness(float("nan"), 1, 1, 2, 0), Steadiness(0.5, 3, 0, 4, 1)])
    assert found == Steadiness(0.5, 2, 0.5, 3, 0.5)


def test_the_command_writes_a_table_a_report_and_a_sheet(tmp_path: Path) -> None:
    arguments = ["evaluate", "wan-toy", "--suite", "temporal", "--limit", "4", "--steps", "2"]
    result = CliRunner().invoke(main, [*arguments, "--flicker", "1", "-o", str(tmp_path)])
    assert result.exit_code == 0, result.output
    for word in ("FLICKER", "WARPING", "MOVEMENT", "two objects"):
        assert word in result.output
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["settings"] == {"steps": 2, "flicker": 1.0}
    assert len(report["clips"]) == 4
    assert set(report["means"]) == {"one object", "two objects", "all"}
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 400
