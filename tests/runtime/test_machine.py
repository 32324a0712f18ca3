"""This machine's numbers on disk: kept, damaged, out of date."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.machines import MACHINE
from wanrun.runtime import machine
from wanrun.runtime.calibration import calibrated


def test_numbers_are_kept_for_each_device() -> None:
    assert machine.load("auto") is None
    machine.save(MACHINE, "auto")
    assert machine.load("auto") == MACHINE
    assert machine.load("cuda:0") is None
    assert calibrated("auto") == MACHINE


def test_a_device_names_no_path() -> None:
    path = machine.path("../../etc/passwd")
    assert path.parent == machine.path("auto").parent
    assert len(machine.path("x" * 5000).name) < 60


@pytest.mark.parametrize("variable", ["OMP_NUM_THREADS", "WANRUN_THREADS"])
def test_other_threads_need_other_numbers(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    machine.save(MACHINE, "auto")
    monkeypatch.setenv(variable, "7")
    assert machine.load("auto") is None


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"of": 1}',
    ],
)
def test_a_damaged_file_is_as_good_as_none(damage: bytes) -> None:
    machine.save(MACHINE, "auto")
    machine.path("auto").write_bytes(damage)
    assert machine.load("auto") is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("write", -1),
        ("write", float("nan")),
        ("write", float("inf")),
        ("write", True),
        ("write", "fast"),
        ("write", None),
        ("write", 0),
        ("unpack", {}),
        ("unpack", {"Q8_0": 0}),
        ("unpack", [1]),
        ("rates", {}),
        ("rates", {"fp32": {}, "bf16": {}}),
        ("precision", "int3"),
        ("extra", 1),
    ],
)
def test_numbers_that_make_no_sense_are_not_used(field: str, value: Any) -> None:
    machine.save(MACHINE, "auto")
    path = machine.path("auto")
    kept = json.loads(path.read_text())
    kept["measured"][field] = value
    path.write_text(json.dumps(kept))
    assert machine.load("auto") is None


def test_every_number_survives_being_written_down() -> None:
    assert machine.parse(json.loads(json.dumps(asdict(MACHINE)))) == MACHINE


def test_a_home_that_cannot_be_written_costs_only_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WANRUN_HOME", str(tmp_path / "file" / "home"))
    machine.save(MACHINE, "auto")
    assert machine.load("auto") is None
