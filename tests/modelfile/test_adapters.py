"""Adapters that do not fit their expert are refused before they are copied, with the reason."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path

import pytest

from tests.modelfile.files import lora, save, save_parts, transformer
from wanrun.errors import InvalidRequest
from wanrun.modelfile.adapters import check_adapters
from wanrun.modelfile.check import Candidate


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_parts(tmp_path)


def problems(folder: Path, *adapters: tuple[str, str], dense: bool = False) -> list[str]:
    """What is said of (role, file) for the experts in ``folder``."""
    roles = {"diffusion": "high"} if dense else {"high_noise": "high", "low_noise": "low"}
    experts = {
        role: Candidate(role, folder / f"wan-{side}_noise.safetensors", side) for role, side in roles.items()
    }
    try:
        check_adapters([Candidate(role, folder / name, name) for role, name in adapters], experts)
    except InvalidRequest as error:
        return str(error).splitlines()
    return []


def test_sound_adapters(folder: Path) -> None:
    save(folder / "my_high.safetensors", lora())
    save(folder / "my_low.safetensors", lora(rank=8))
    save(folder / "style.safetensors", lora(rank=2))
    assert problems(folder) == []
    pair = ("high_noise", "my_high.safetensors"), ("low_noise", "my_low.safetensors")
    assert problems(folder, *pair, ("", "style.safetensors")) == []
    assert problems(folder, ("", "style.safetensors"), ("", "my_high.safetensors"), dense=True) == []


def test_experts(folder: Path) -> None:
    for name in ("my_high.safetensors", "style.safetensors"):
        save(folder / name, lora())
    assert problems(folder, ("low_noise", "my_high.safetensors")) == [
        "adapter my_high.safetensors: by its name this is for the high_noise expert alone: "
        "write ADAPTER high_noise my_high.safetensors"
    ]
    assert "high_noise expert alone" in problems(folder, ("", "my_high.safetensors"))[0]
    assert problems(folder, ("high_noise", "style.safetensors"), dense=True) == [
        "adapter style.safetensors: it is for high_noise, and the model has diffusion"
    ]


@pytest.mark.parametrize("link", [False, True])
def test_one_file_for_both_experts(folder: Path, link: bool) -> None:
    one, two = "one.safetensors", "two.safetensors" if link else "one.safetensors"
    save(folder / one, lora())
    if link:
        os.link(folder / one, folder / two)
    assert problems(folder, ("high_noise", one), ("low_noise", two)) == [
        f"adapter {two} is given for both experts: few-step adapters have a file for each; "
        "one that is meant for both is named once, without an expert"
    ]
    assert "is given twice" in problems(folder, ("", one), ("high_noise", two))[0]


def test_what_does_not_fit(folder: Path) -> None:
    save(folder / "wide.safetensors", lora(width=256))
    save(folder / "deep.safetensors", {f"blocks.9.{name}": (4, 4) for name in ("ffn.0.lora_down.weight",)})
    save(folder / "other.safetensors", {"lora_te_text_model.lora_down.weight": (4, 4)})
    save(folder / "model.safetensors", transformer())
    (folder / "pickle.pt").write_bytes(pickle.dumps({}))
    names = ("wide.safetensors", "deep.safetensors", "other.safetensors", "model.safetensors", "pickle.pt")
    found = problems(folder, *(("high_noise", name) for name in (*names, "none.safetensors")))
    expected = [
        "does not fit this model: .*lora_down.weight and its other half make 256 × 256, .* is 128 × 128",
        "changes nothing of this model: 1 keys",
        "changes nothing of this model: 1 keys",
        "this is a diffusion model, not an adapter",
        "is a pickled checkpoint",
        "no such file",
    ]
    assert len(found) == len(expected)
    for line, name, reason in zip(found, (*names, "none.safetensors"), expected, strict=True):
        assert line.startswith(f"adapter {name}: ")
        assert re.search(reason, line), line
