"""Compiled blocks: traced whole without a device here, compared with plain ones where there is one."""

from __future__ import annotations

import pytest
import torch

from tests.diffusion.test_branches import HIGH, LOW, inputs, relative
from wanrun.diffusion.experts import load
from wanrun.gguf.weights import open_weights
from wanrun.wan.load import load_transformer
from wanrun.wan.rope import rotation


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_block_with_packed_weights_is_one_graph(dtype: torch.dtype) -> None:
    with open_weights(HIGH) as weights:
        block = load_transformer(weights, "cpu", dtype).blocks[0].to("meta")
    traced = torch.compile(block.forward, backend="eager", fullgraph=True)
    text = torch.empty(2, 2, 8, 128, dtype=dtype, device="meta")
    for frames in (3, 5):
        turn = rotation(frames, 4, 4).to("meta")
        x, time = torch.empty(2, 16 * frames, 256, device="meta"), torch.empty(2, 1, 6, 256, device="meta")
        assert traced(x, time, (text, text), torch.empty(2, 1, 1, 8, device="meta"), turn).shape == x.shape


@pytest.mark.gpu
@pytest.mark.parametrize("resident", [None, 2_000_000])
def test_compiled_experts_agree_with_plain_ones(
    resident: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    latents, contexts = inputs()
    files = {"high_noise": HIGH, "low_noise": LOW}
    with load(files, 0.875, "cuda", "bf16") as plain:
        monkeypatch.setenv("WANRUN_COMPILE", "on")
        with load(files, 0.875, "cuda", "bf16", resident_bytes=resident) as fused:
            for timestep in (950.0, 800.0):
                ours, theirs = (each.velocity(latents, timestep, contexts[0]) for each in (fused, plain))
                assert relative(ours, theirs) < 0.01
