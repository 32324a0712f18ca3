"""``wanrun plugins`` and ``wanrun doctor``."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from wanrun.cli.main import main
from wanrun.settings import SETTINGS


def test_plugins_are_listed_with_their_state() -> None:
    result = CliRunner().invoke(main, ["plugins"])
    assert result.exit_code == 0
    line = next(line for line in result.output.splitlines() if "unipc" in line and "samplers" in line)
    assert line.split()[-1] == "ok"


def test_doctor_prints_every_setting() -> None:
    result = CliRunner(env={"WANRUN_THREADS": "1"}).invoke(main, ["doctor"])
    assert result.exit_code == 0, result.output
    for setting in SETTINGS:
        assert setting.variable in result.output
    assert "environment" in next(line for line in result.output.splitlines() if "WANRUN_THREADS" in line)
    assert "a run computes on" in result.output


def test_doctor_says_how_weights_are_multiplied_and_why(home: Path) -> None:
    first = CliRunner().invoke(main, ["doctor"])
    assert first.exit_code == 0, first.output
    line = next(line for line in first.output.splitlines() if line.startswith("Q4_K"))
    assert "resident" in line
    assert "per use" in line
    assert "ggml" in line
    assert (home / "cache" / "linear.json").is_file()
    assert line in CliRunner().invoke(main, ["doctor"]).output  # remembered, not measured again
