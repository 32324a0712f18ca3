"""Latents on disk come back as they were, and nothing else passes for them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from wanrun.decoders.latents import pack, unpack
from wanrun.errors import FormatError, ModelNotFound


def test_latents_and_provenance_survive(tmp_path: Path) -> None:
    latents = torch.randn(16, 3, 4, 6)
    path = tmp_path / "latents.safetensors"
    path.write_bytes(pack(latents, {"model": "wan-toy", "request": {"prompt": "ü🏀"}}))
    restored, provenance = unpack(path)
    assert torch.equal(restored, latents)
    assert provenance == {"model": "wan-toy", "request": {"prompt": "ü🏀"}}


@pytest.mark.parametrize(
    "data",
    [
        save({"latents": torch.zeros(16, 3, 4, 6)}),
        save({"other": torch.zeros(16, 3, 4, 6)}, {"wanrun": "{}"}),
        save({"latents": torch.zeros(4, 6)}, {"wanrun": "{}"}),
        save({"latents": torch.zeros(1, 1, 1, 1)}, {"wanrun": "{"}),
        save({"latents": torch.zeros(1, 1, 1, 1)}, {"wanrun": "[]"}),
        pack(torch.zeros(1, 1, 1, 1), {})[:-1],
        b"",
    ],
    ids=["no provenance", "no latents", "2-D", "cut JSON", "a list", "cut file", "empty"],
)
def test_other_files_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "latents.safetensors"
    path.write_bytes(data)
    with pytest.raises(FormatError):
        unpack(path)


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        unpack(tmp_path / "none.safetensors")
