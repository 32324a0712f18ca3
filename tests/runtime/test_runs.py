"""What an interrupted run leaves on disk, and what may continue from it."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from wanrun.errors import InvalidRequest, ModelNotFound
from wanrun.runtime import runs
from wanrun.types import Adapter, Bundle, Component, GenerationRequest, Lora

REQUEST = GenerationRequest(
    "a ball", "", 64, 64, 17, 16, 4, 3.0, 0.875, "unipc", "unipc", 4.0, 4.0, 7, "auto", "vae",
    (16, 5, 8, 8), (Lora("low_noise", 0.5, "sha256:" + "3" * 64, "style"),), ("rounded",),
)  # fmt: skip
BUNDLE = Bundle("toy", {"vae": Component("vae", Path("vae"), "sha256:" + "0" * 64, 3, "vae")})


def test_a_run_remembers_its_model_its_request_and_its_velocities(tmp_path: Path) -> None:
    run = runs.begin(tmp_path, BUNDLE, REQUEST)
    assert not run.started
    run.record(0, b"abcd")
    run.record(1, b"efgh")
    again = runs.find(tmp_path, run.id)
    assert again.started
    assert runs.model(again) == "toy"
    assert runs.request(again, BUNDLE) == REQUEST
    assert again.recorded() == [b"abcd", b"efgh"]
    again.forget()
    with pytest.raises(ModelNotFound):
        runs.find(tmp_path, run.id)


def test_a_damaged_velocity_ends_what_is_played_back(tmp_path: Path) -> None:
    run = runs.begin(tmp_path, BUNDLE, REQUEST)
    for index in range(3):
        run.record(index, bytes([index]) * 8)
    path = run.folder / "velocity-00001"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"\xff")
    assert run.recorded() == [b"\0" * 8]
    path.write_bytes(data[:-3])
    assert run.recorded() == [b"\0" * 8]
    path.write_bytes(data)
    assert len(run.recorded()) == 3


def test_other_bytes_under_the_same_name_cannot_continue(tmp_path: Path) -> None:
    run = runs.begin(tmp_path, BUNDLE, REQUEST)
    other = replace(BUNDLE.components["vae"], digest="sha256:" + "1" * 64)
    with pytest.raises(InvalidRequest, match="changed"):
        runs.request(run, Bundle("toy", {"vae": other}))


def test_other_adapters_cannot_continue(tmp_path: Path) -> None:
    adapter = Adapter("", 1.0, Component("adapter", Path("a"), "sha256:" + "2" * 64, 3, "a"))
    bundle = replace(BUNDLE, adapters=(adapter,))
    run = runs.begin(tmp_path, bundle, REQUEST)
    assert runs.request(run, bundle) == REQUEST
    for others in ((), (replace(adapter, scale=0.5),), (replace(adapter, role="low_noise"),), (adapter,) * 2):
        with pytest.raises(InvalidRequest, match="changed"):
            runs.request(run, replace(BUNDLE, adapters=others))
    old = runs.begin(tmp_path, BUNDLE, REQUEST)  # as written before there were adapters
    described = json.loads((old.folder / "run.json").read_text())
    del described["adapters"]
    (old.folder / "run.json").write_text(json.dumps(described))
    assert runs.request(old, BUNDLE) == REQUEST
    with pytest.raises(InvalidRequest, match="changed"):
        runs.request(old, bundle)


@pytest.mark.parametrize("name", ["../x", "", "0000000g", "00000000", "/etc/passwd", "a" * 300, "0000\n000"])
def test_no_id_leads_elsewhere(tmp_path: Path, name: str) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "run.json").write_text("{}")
    kept = runs.begin(tmp_path, BUNDLE, REQUEST)
    with pytest.raises(ModelNotFound, match=kept.id):
        runs.find(tmp_path, name)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"model": "toy", "components": {}, "request": {}}', "\xff"]
)
def test_a_damaged_description_is_refused(tmp_path: Path, text: str) -> None:
    run = runs.begin(tmp_path, BUNDLE, REQUEST)
    (run.folder / "run.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidRequest):
        runs.request(runs.find(tmp_path, run.id), Bundle("toy", {}))


def test_runs_that_nobody_continued_are_forgotten_after_two_weeks(tmp_path: Path) -> None:
    old, recent = runs.begin(tmp_path, BUNDLE, REQUEST), runs.begin(tmp_path, BUNDLE, REQUEST)
    description = old.folder / "run.json"
    age = description.stat().st_mtime - 15 * 86_400
    os.utime(description, (age, age))
    runs.begin(tmp_path, BUNDLE, REQUEST)
    assert not old.folder.exists()
    assert json.loads((recent.folder / "run.json").read_text())["model"] == "toy"
