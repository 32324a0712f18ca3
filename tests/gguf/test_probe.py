"""Speeds are measured once a machine and remembered; a damaged memory is measured again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from wanrun.gguf.policy import GGML, PER_USE, RESIDENT
from wanrun.gguf.probe import Memory, measure


def test_every_way_has_a_rate_and_threads_are_as_before() -> None:
    threads = torch.get_num_threads()
    assert set(measure("Q4_K", torch.bfloat16)) == {RESIDENT, PER_USE, GGML}
    assert set(measure("BF16", torch.float32)) == {RESIDENT, PER_USE}
    assert torch.get_num_threads() == threads


@pytest.fixture(scope="module")
def remembered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home") / "cache"
    Memory(folder).rates("Q8_0", torch.bfloat16)
    return folder / "linear.json"


def copy_of(remembered: Path, tmp_path: Path) -> tuple[Path, dict[str, object]]:
    """A writable copy, and its content with a rate that nothing measures."""
    data = json.loads(remembered.read_text())
    for rates in data["rates"].values():
        rates[GGML] = 12345.5
    return tmp_path / "linear.json", data


def test_the_next_process_measures_nothing(remembered: Path, tmp_path: Path) -> None:
    file, data = copy_of(remembered, tmp_path)
    file.write_text(json.dumps(data))
    memory = Memory(tmp_path)
    assert memory.rates("Q8_0", torch.bfloat16)[GGML] == 12345.5
    assert set(memory.known) == {("Q8_0", "bfloat16")}


def test_types_are_added_to_what_other_processes_found(remembered: Path, tmp_path: Path) -> None:
    file, data = copy_of(remembered, tmp_path)
    early = Memory(tmp_path)
    file.write_text(json.dumps(data))
    early.rates("Q4_0", torch.bfloat16)
    again = Memory(tmp_path)
    assert {kind for kind, _ in again.known} == {"Q8_0", "Q4_0"}
    assert again.rates("Q8_0", torch.bfloat16)[GGML] == 12345.5


@pytest.mark.parametrize("damage", ["empty", "cut", "list", "rates", "names", "way", "infinite", "machine"])
def test_a_damaged_or_foreign_file_is_as_good_as_none(damage: str, remembered: Path, tmp_path: Path) -> None:
    file, data = copy_of(remembered, tmp_path)
    texts = {
        "empty": "",
        "cut": json.dumps(data)[:-9],
        "list": "[1, 2]",
        "rates": json.dumps(data | {"rates": [1]}),
        "names": json.dumps(data | {"rates": {"Q8_0": {RESIDENT: 1.0, PER_USE: 1.0}}}),
        "way": json.dumps(data | {"rates": {"Q8_0 bfloat16": {RESIDENT: 1.0, "faith": 1.0}}}),
        "infinite": json.dumps(
            data | {"rates": {"Q8_0 bfloat16": {RESIDENT: 1.0, PER_USE: 1.0, GGML: float("inf")}}}
        ),
        "machine": json.dumps(data | {"machine": "an abacus"}),
    }
    file.write_text(texts[damage])
    assert not Memory(tmp_path).known


def test_bytes_that_are_no_text_are_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "linear.json").write_bytes(b"\xff\x00\x80")
    assert set(Memory(tmp_path).rates("Q8_0", torch.bfloat16)) == {RESIDENT, PER_USE, GGML}
    assert Memory(tmp_path).known


def test_a_folder_that_cannot_be_written_costs_only_the_memory(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert RESIDENT in Memory(tmp_path / "cache").rates("Q8_0", torch.bfloat16)
