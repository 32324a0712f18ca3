"""A prompt that was encoded once is read from disk, bit for bit."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from wanrun.text.cache import CachedEncoder
from wanrun.types import Resource


class Counting(Resource):
    """An encoder that counts its work."""

    def __init__(self) -> None:
        self.encoded: list[str] = []
        self.closed = False

    def tokenize(self, text: str) -> list[int]:
        return [len(text), 1]

    def encode(self, text: str) -> Tensor:
        self.encoded.append(text)
        return torch.randn(len(text) % 5 + 1, 8, generator=torch.Generator().manual_seed(len(text)))

    def close(self) -> None:
        self.closed = True


def never() -> Counting:
    raise AssertionError("the encoder was opened")


def cached(
    opener: Callable[[], Counting], folder: Path, digest: str = "sha256:0", limit: int = 10**6
) -> CachedEncoder:
    return CachedEncoder(opener, digest, folder, limit)


def test_a_known_prompt_needs_no_encoder(tmp_path: Path) -> None:
    real = Counting()
    with cached(lambda: real, tmp_path) as encoder:
        first = encoder.encode("a red ball")
        assert torch.equal(encoder.encode("a red ball"), first)
        assert encoder.tokenize("abc") == [3, 1]
    assert real.encoded == ["a red ball"]
    assert real.closed
    with cached(never, tmp_path) as encoder:
        assert torch.equal(encoder.encode("a red ball"), first)


def test_another_prompt_and_another_encoder_are_other_entries(tmp_path: Path) -> None:
    real = Counting()
    with cached(lambda: real, tmp_path) as encoder:
        encoder.encode("a")
        encoder.encode("b\ud800")  # half a character, as a broken client may send it
    with cached(lambda: real, tmp_path, "sha256:1") as encoder:
        encoder.encode("a")
    assert real.encoded == ["a", "b\ud800", "a"]


@pytest.mark.parametrize("keep", [0, 10, 33, -1])
def test_a_damaged_entry_is_encoded_anew(tmp_path: Path, keep: int) -> None:
    real = Counting()
    with cached(lambda: real, tmp_path) as encoder:
        rows = encoder.encode("a red ball")
        (path,) = tmp_path.iterdir()
        path.write_bytes(path.read_bytes()[:keep])
        assert torch.equal(encoder.encode("a red ball"), rows)
        assert len(real.encoded) == 2
        assert torch.equal(encoder.encode("a red ball"), rows)
        assert len(real.encoded) == 2


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    real = Counting()
    entry = 32 + 8 + 3 * 8 * 4
    with cached(lambda: real, tmp_path, limit=3 * entry) as encoder:
        for text in ("aa", "bbbbbbb", "cccccccccccc"):
            encoder.encode(text)
        for age, path in enumerate(sorted(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)):
            os.utime(path, (1000 + age, 1000 + age))
        encoder.encode("aa")  # used again
        encoder.encode("d" * 17)
        assert len(list(tmp_path.iterdir())) == 3
        encoder.encode("aa")
        encoder.encode("bbbbbbb")
    assert real.encoded == ["aa", "bbbbbbb", "cccccccccccc", "d" * 17, "bbbbbbb"]


def test_a_folder_that_cannot_be_written_costs_only_the_cache(tmp_path: Path) -> None:
    real = Counting()
    (tmp_path / "file").touch()
    with cached(lambda: real, tmp_path / "file" / "below") as encoder:
        assert encoder.encode("a").shape == (2, 8)
