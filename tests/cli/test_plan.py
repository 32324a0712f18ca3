"""``wanrun plan``, ``run --plan`` and ``--memory``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.cli.conftest import done, refused, wanrun
from tests.modelfile.files import lora, save
from tests.runtime.machines import keep
from wanrun.cli.plan import duration
from wanrun.runtime import machine


@pytest.fixture(autouse=True)
def measured(home: Path) -> None:
    keep(home)


def test_a_plan_is_a_table_of_phases() -> None:
    table = done("plan", "wan-toy")
    header, *rows = table.splitlines()
    assert header.split("  ")[0] == "PHASE"
    titles = [row.partition("  ")[0] for row in rows[:6]]
    assert titles == ["starting", "text encoder", "high noise", "low noise", "VAE", "writing"]
    assert "in bf16 on cpu" in table
    assert "\nfits in " in table


def test_a_plan_is_json_for_programs() -> None:
    told = json.loads(done("plan", "wan-toy", "--json", "--memory", "8GB", "--precision", "fp32"))
    assert (told["limit"], told["fits"], told["precision"]) == (8 * 10**9, True, "fp32")
    assert told["memory"] == max(phase["memory"] for phase in told["phases"])
    assert told["seconds"] == pytest.approx(sum(phase["seconds"] for phase in told["phases"]), abs=0.01)
    assert told["resident"] > 0


def test_a_run_can_be_planned_only(home: Path) -> None:
    plan = done("plan", "wan-toy", "a ball", "--size", "128x128")
    run = done("run", "wan-toy", "a ball", "--size", "128x128", "--plan")
    assert plan.splitlines()[:-1] == run.splitlines()[:-1]  # what is free changes by itself
    assert done("run", "wan-toy", "--plan").startswith("PHASE")
    assert not (home / "runs").exists()


def test_a_lora_is_planned_with_its_expert(tmp_path: Path) -> None:
    attention = {name: shape for name, shape in lora(256, layers=4, rank=64).items() if "attn" in name}
    path = save(tmp_path / "style.safetensors", attention)
    words = ("plan", "wan-toy", "--json", "--precision", "fp32")
    plain, adapted = json.loads(done(*words)), json.loads(done(*words, "--lora", f"low_noise={path}"))
    added = {
        then["name"]: then["memory"] - now["memory"]
        for now, then in zip(plain["phases"], adapted["phases"], strict=True)
    }
    assert added == dict.fromkeys(added, 0) | {"low_noise": 4 * (4 * 2 * 64 * 256 + 4)}
    assert "no such file" in refused("plan", "wan-toy", "--lora", "none.safetensors")
    assert "for high_noise or low_noise" in refused("plan", "wan-toy", "--lora", f"vae={path}")


def test_a_run_that_does_not_fit_never_starts(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("run", "wan-toy", "a ball", "--size", "512x512", "-o", "ball.mp4")
    message = refused(*words, "--memory", "400MB")
    assert "400 MB is allowed" in message
    assert re.search(r"^  --size (\d+)x\1  \(", message, re.MULTILINE)
    assert not (home / "runs").exists()
    assert not (tmp_path / "ball.mp4").exists()
    monkeypatch.setenv("WANRUN_MEMORY", "400MB")
    assert refused(*words) == message


def test_a_plan_that_does_not_fit_is_shown_and_is_an_error() -> None:
    result = wanrun("plan", "wan-toy", "--size", "512x512", "--memory", "400MB")
    assert result.exit_code == 1
    assert "does not fit in 400 MB" in result.stdout
    assert "Error: this run needs" in result.stderr


@pytest.mark.parametrize("size", ["", "0", "-1", "nan", "1e9", "8 potatoes", "0.0GB", "9" * 400, "8GB; rm"])
def test_amounts_of_memory_that_are_none_are_refused(size: str) -> None:
    result = wanrun("plan", "wan-toy", f"--memory={size}")
    assert result.exit_code == 2
    assert "--memory" in result.stderr


def test_a_setting_that_is_no_amount_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANRUN_MEMORY", "plenty")
    assert "WANRUN_MEMORY" in refused("plan", "wan-toy")


def test_doctor_shows_what_was_measured(home: Path) -> None:
    table = done("doctor")
    assert "200 GF/s" in table
    assert str(machine.path("auto")) in table
    machine.path("auto").write_text("{")
    assert "is measured by the first" in done("doctor")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (8.24, "8.2 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations_are_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
