"""Previews are the tiny decoder's where there is one, never too many, and no run fails for want of one."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import Image

import wanrun
from tests.benchmarks.checkpoints import write_tiny
from wanrun.runtime import previews as module
from wanrun.runtime.previews import Previews
from wanrun.types import Bundle, Component

LATENTS = torch.randn(16, 2, 4, 6, generator=torch.Generator().manual_seed(0))


def bundle(tiny: Path | None) -> Bundle:
    """wan-toy, with a tiny decoder if there is one."""
    toy = wanrun.load("wan-toy")
    if tiny is None:
        return toy
    return replace(toy, components=dict(toy.components) | {"preview": Component("preview", tiny, "", 0, "")})


def size(data: bytes | None) -> tuple[int, int]:
    assert data is not None
    return Image.open(BytesIO(data)).size


@pytest.mark.parametrize(("tiny", "shown"), [(False, (6, 4)), (True, (48, 32))])
def test_the_decoder_is_used_where_there_is_one(tmp_path: Path, tiny: bool, shown: tuple[int, int]) -> None:
    path = tmp_path / "tiny.safetensors"
    write_tiny(path)
    with Previews(bundle(path if tiny else None), "cpu", "fp32") as previews:
        assert size(previews.take(LATENTS)) == shown


def test_pictures_wait_for_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    # before and after each picture that is taken: the first takes 0.1 s, 3 % of what goes by until the next
    clock = iter([0.0, 0.1, 0.6, 3.4, 3.5, 3.6, 6.0, 7.0, 7.0])
    monkeypatch.setattr(module, "now", lambda: next(clock))
    with Previews(bundle(None), "cpu", "fp32") as previews:
        taken = [previews.take(LATENTS) is not None for _ in range(6)]
    assert taken == [True, False, False, True, False, True]


@pytest.mark.parametrize("data", [None, b"", b"no safetensors"])
def test_a_decoder_that_cannot_be_used_is_not_missed(tmp_path: Path, data: bytes | None) -> None:
    path = tmp_path / "tiny.safetensors"
    if data is not None:
        path.write_bytes(data)
    with Previews(bundle(path), "cpu", "fp32") as previews:
        assert size(previews.take(LATENTS)) == (6, 4)
