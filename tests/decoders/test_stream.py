"""Frames in and out of both decoders, and memory that does not grow with their number."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.wan.conftest import diffusers_vae, store
from wanrun.decoders.stream import load_full, load_tiny_decoder
from wanrun.errors import InvalidRequest
from wanrun.wan.tiny import TinyConfig, TinyVAE


@torch.no_grad()
def test_frames_are_the_rounded_pixels(tmp_path: Path) -> None:
    theirs = diffusers_vae("2.1")
    path = store(theirs, tmp_path / "vae.safetensors", "diffusers")
    latents = torch.randn(16, 3, 4, 6)
    with load_full(path, "cpu", "fp32") as decoder:
        frames = np.stack(list(decoder.frames(latents)))
        assert frames.dtype == np.uint8
        assert frames.shape == (9, 32, 48, 3)
        std = torch.tensor(theirs.config.latents_std).view(1, -1, 1, 1, 1)
        mean = torch.tensor(theirs.config.latents_mean).view(1, -1, 1, 1, 1)
        pixels = theirs.decode(latents[None] * std + mean).sample[0].permute(1, 2, 3, 0)
        assert np.abs(frames - ((pixels + 1) * 127.5).numpy()).max() <= 0.51

        clip = [np.full((16, 32, 3), 20 * index, np.uint8) for index in range(5)]
        video = torch.from_numpy(np.stack(clip)).permute(3, 0, 1, 2)[None] / 127.5 - 1
        expected = (theirs.encode(video).latent_dist.mode() - mean) / std
        assert torch.allclose(decoder.encode(clip), expected[0], atol=1e-4)


@pytest.mark.parametrize("frames", [0, 2, 4, 6])
def test_other_than_4k_plus_1_frames_are_refused(frames: int, tmp_path: Path) -> None:
    path = store(diffusers_vae("2.1"), tmp_path / "vae.safetensors", "diffusers")
    with load_full(path, "cpu", "fp32") as decoder, pytest.raises(InvalidRequest, match="4k"):
        decoder.encode([np.zeros((16, 16, 3), np.uint8)] * frames)


def test_wrong_latents_and_a_closed_decoder_are_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "taew2_1.safetensors"
    save_file(TinyVAE(TinyConfig(16, 1)).state_dict(), str(path))
    decoder = load_tiny_decoder(path, "cpu", "fp32")
    assert len(list(decoder.frames(torch.randn(16, 2, 2, 2)))) == 5
    with pytest.raises(InvalidRequest, match="16 channels"):
        next(decoder.frames(torch.randn(48, 2, 2, 2)))
    decoder.close()
    with pytest.raises(InvalidRequest, match="closed"):
        next(decoder.frames(torch.randn(16, 2, 2, 2)))


_PEAK = """
import resource, sys, torch
from pathlib import Path
from wanrun.decoders.stream import load_full
torch.set_num_threads(1)
latents = torch.randn(16, (int(sys.argv[2]) - 1) // 4 + 1, 8, 8)
with load_full(Path(sys.argv[1]), "cpu", "fp32") as decoder:
    assert sum(1 for _ in decoder.frames(latents)) == int(sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_81_frames_peak_as_17_do(tmp_path: Path) -> None:
    path = store(diffusers_vae("2.1"), tmp_path / "vae.safetensors", "diffusers")

    def peak(frames: int) -> int:
        command = [sys.executable, "-c", _PEAK, str(path), str(frames)]
        return int(subprocess.run(command, check=True, capture_output=True, timeout=120).stdout)

    assert peak(81) <= 1.1 * peak(17)
