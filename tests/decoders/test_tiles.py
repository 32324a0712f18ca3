"""Tiles change a picture little, and are what saves a decode that runs out of memory."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.wan.conftest import moving_disc
from wanrun.decoders.fallback import Fallback
from wanrun.decoders.stream import StreamDecoder, load_full, out_of_memory
from wanrun.decoders.tiles import spans, tiled
from wanrun.errors import InvalidRequest, OutOfMemoryBudget
from wanrun.types import Decoder

VAE = Path(__file__).parents[2] / "modelfiles" / "wan-toy" / "wan-toy-vae.safetensors"


@pytest.mark.parametrize(("length", "tile"), [(1, 8), (8, 8), (9, 8), (60, 24), (104, 24), (31, 2)])
def test_spans_cover_everything_and_overlap(length: int, tile: int) -> None:
    covered = np.zeros(length, int)
    found = spans(length, tile)
    for start, size in found:
        assert 0 <= start <= start + size <= length
        assert size <= tile
        covered[start : start + size] += 1
    assert covered.min() >= 1
    for (first, size), (second, _) in pairwise(found):
        assert second < first + size


def test_what_looks_at_single_positions_is_the_same_in_tiles() -> None:
    def decode(latents: Tensor) -> Iterator[Tensor]:
        pixels = latents[:3].repeat_interleave(8, 2).repeat_interleave(8, 3)
        yield pixels[:, 0]
        for frame in range(1, latents.shape[1]):
            yield from pixels[:, frame : frame + 1].expand(-1, 4, -1, -1).unbind(1)

    latents = torch.rand(16, 3, 13, 30) * 2 - 1
    whole, parts = torch.stack(list(decode(latents))), torch.stack(list(tiled(decode, latents, 8)))
    assert parts.shape == (9, 3, 104, 240)
    assert float((whole - parts).abs().max()) < 2e-3  # half precision


def decibels(ours: Tensor, theirs: Tensor) -> float:
    """Peak signal-to-noise ratio of pixels in -1..1."""
    return -10 * math.log10(float(((ours - theirs) / 2).square().mean()))


@torch.inference_mode()
@pytest.mark.parametrize("tile", [12, 8])
def test_seams_are_small(tile: int) -> None:
    """Tiles show a clip as well as a whole decode does; large ones show nearly the same pixels."""
    clip = moving_disc(5, 112, 176)
    with load_full(VAE, "cpu", "fp32") as decoder:
        vae = decoder._autoencoder
        assert vae is not None
        latents = vae.encode_stream(clip)
        whole = torch.stack(list(vae.decode_stream(latents)))
        parts = torch.stack(list(tiled(vae.decode_stream, latents, tile)))
    assert decibels(parts, torch.stack(clip)) > decibels(whole, torch.stack(clip)) - 1
    assert tile < 12 or decibels(parts, whole) > 40


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            True,
        ),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"), False),
        (ValueError("can't"), False),
    ],
)
def test_what_counts_as_out_of_memory(error: Exception, expected: bool) -> None:
    assert out_of_memory(error) == expected


class Hungry(torch.nn.Module):
    """An autoencoder that fails above a number of positions, after some frames."""

    def __init__(self, most: int, frames: int = 0) -> None:
        super().__init__()
        self.most, self.good, self.calls = most, frames, 0

    def decode_stream(self, latents: Tensor) -> Iterator[Tensor]:
        self.calls += 1
        height, width = latents.shape[2:]
        for index in range(4 * latents.shape[1] - 3):
            if height * width > self.most and index >= self.good:
                raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")
            yield torch.full((3, height * 8, width * 8), index / 10)


@pytest.mark.parametrize("before", [0, 1, 3])
def test_a_decode_that_runs_out_of_memory_goes_on_in_tiles(before: int) -> None:
    hungry = Hungry(most=24 * 24, frames=before)
    decoder = StreamDecoder(hungry, 16, -1.0, "cpu")  # type: ignore[arg-type]
    frames = list(decoder.frames(torch.zeros(16, 2, 30, 50)))
    assert [int(frame[0, 0, 0]) for frame in frames] == [
        round((1 + index / 10) * 127.5) for index in range(5)
    ]
    assert all(frame.shape == (240, 400, 3) and np.ptp(frame) <= 1 for frame in frames)


def test_what_fits_in_no_tile_is_refused_and_other_errors_stay() -> None:
    decoder = StreamDecoder(Hungry(most=1), 16, -1.0, "cpu")  # type: ignore[arg-type]
    with pytest.raises(OutOfMemoryBudget, match="tiny"):
        list(decoder.frames(torch.zeros(16, 2, 30, 50)))
    with load_full(VAE, "cpu", "fp32") as full, pytest.raises(RuntimeError, match="size of tensor"):
        list(full._pixels(full._open(), torch.zeros(9, 1, 2, 2)))


def test_another_decoder_goes_on_where_tiles_do_not_help(caplog: pytest.LogCaptureFixture) -> None:
    opened: list[str] = []

    def opener(name: str, most: int, frames: int) -> tuple[str, Callable[[], Decoder]]:
        def start() -> Decoder:
            opened.append(name)
            return StreamDecoder(Hungry(most, frames), 16, -1.0, "cpu")  # type: ignore[arg-type]

        return name, start

    latents = torch.zeros(16, 2, 30, 50)
    with Fallback([opener("vae", 1, 2), opener("tiny", 10_000, 0)]) as decoder:
        frames = list(decoder.frames(latents))
        assert opened == ["vae", "tiny"]
        assert [int(frame[0, 0, 0]) for frame in frames] == [round((1 + n / 10) * 127.5) for n in range(5)]
        assert "going on with tiny after 2 frames" in caplog.text
        assert len(list(decoder.frames(latents))) == 5
        assert opened == ["vae", "tiny"]  # what did not fit once is not tried again
    with Fallback([opener("vae", 1, 0), opener("tiny", 1, 0)]) as decoder, pytest.raises(OutOfMemoryBudget):
        list(decoder.frames(latents))
    with Fallback([opener("vae", 10_000, 0)]) as decoder, pytest.raises(InvalidRequest, match="16 channels"):
        next(decoder.frames(latents[:1]))


_LIMITED = """
import resource, sys, torch
from pathlib import Path
from wanrun.decoders.stream import load_full
torch.set_num_threads(1)
latents = torch.randn(16, 2, 96, 96, generator=torch.Generator().manual_seed(0))
with load_full(Path(sys.argv[1]), "cpu", "fp32") as decoder:
    next(decoder.frames(latents[:, :, :8, :8]))
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + (int(sys.argv[2]) << 20), resource.RLIM_INFINITY))
    print(sum(1 for frame in decoder.frames(latents) if frame.shape == (768, 768, 3)))
"""


def test_a_real_allocation_that_fails_is_survived() -> None:
    command = [sys.executable, "-c", _LIMITED, str(VAE), "500"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.split() == ["5"]
    assert "in tiles of" in done.stderr
