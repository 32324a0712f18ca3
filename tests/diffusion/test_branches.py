"""Guidance's branches in one pass, prompts read once, and experts that follow each other without a peak."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.gguf.test_mapping import cached, evict, wait_until_cached
from wanrun.diffusion.experts import Experts, load
from wanrun.diffusion.prompts import Prompts
from wanrun.errors import InvalidRequest, ModelNotFound
from wanrun.gguf.weights import open_weights
from wanrun.types import BlockDenoiser, BranchDenoiser
from wanrun.wan.context import fold_padding
from wanrun.wan.load import load_transformer
from wanrun.wan.model import WanModel, straight

TOY = Path(__file__).parents[2] / "modelfiles" / "wan-toy"
HIGH, LOW = (TOY / f"wan-toy-{role}-noise-Q8_0.gguf" for role in ("high", "low"))


#: How far two orders of the same sums may lie apart: 8 bits round the last bit of bfloat16 away or up.
TOLERANCES = {"fp32": 1e-5, "bf16": 0.01, "int8": 0.02}


@pytest.fixture(params=TOLERANCES)
def precision(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def experts(precision: str) -> Iterator[Experts]:
    with load({"diffusion": HIGH}, device="cpu", precision=precision) as opened:
        yield opened


def inputs(seed: int = 0) -> tuple[Tensor, list[Tensor]]:
    """Latents, and contexts of different lengths."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(16, 3, 8, 8, generator=rng), [
        torch.randn(count, 256, generator=rng) for count in (9, 4)
    ]


def relative(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


def test_one_pass_gives_what_a_pass_each_gives(experts: Experts, precision: str) -> None:
    latents, contexts = inputs()
    assert isinstance(experts, BranchDenoiser)
    both = experts.velocities(latents, 900.0, contexts)
    each = [experts.velocity(latents, 900.0, context) for context in contexts]
    assert [velocity.shape for velocity in both] == [latents.shape] * 2
    assert max(map(relative, both, each)) < TOLERANCES[precision]
    assert relative(both[0], both[1]) > 0.001


def test_the_same_bits_again_and_from_another_process_of_the_run(experts: Experts) -> None:
    latents, contexts = inputs()
    first = experts.velocities(latents, 900.0, contexts)
    experts.velocities(*inputs(1)[:1], 700.0, inputs(1)[1])
    assert all(map(torch.equal, experts.velocities(latents, 900.0, contexts), first))
    experts.close()  # a resumed run loads the model afresh and reads the prompts again
    assert all(map(torch.equal, experts.velocities(latents, 900.0, contexts), first))


def test_long_clips_go_one_branch_at_a_time() -> None:
    latents = torch.randn(16, 1, 128, 130, generator=torch.Generator().manual_seed(0))  # 4,160 tokens
    contexts = inputs()[1]
    with load({"diffusion": HIGH}, device="cpu", precision="bf16") as experts:
        both = experts.velocities(latents, 900.0, contexts)
        assert torch.equal(both[1], experts.velocity(latents, 900.0, contexts[1]))


def test_every_context_is_checked(experts: Experts) -> None:
    latents, contexts = inputs()
    with pytest.raises(InvalidRequest, match="expected"):
        experts.velocities(latents, 900.0, [contexts[0], torch.zeros(3, 255)])


def test_prompts_are_read_once_and_found_by_their_values() -> None:
    with open_weights(HIGH) as weights, torch.inference_mode():
        model = load_transformer(weights, "cpu", torch.float32)
        prompts, (_, contexts) = Prompts(model), inputs()
        pair, single = prompts.read(contexts), prompts.read(contexts[:1])
        assert prompts.read([context.clone() for context in contexts]) is pair
        assert prompts.read(contexts[:1]) is single
        assert torch.equal(pair.text[1][0], model.read(fold_padding(contexts)).text[1][0])
        contexts[0][0] += 1
        assert prompts.read(contexts[:1]) is not single


def test_8_bits_are_for_the_cpu() -> None:
    with pytest.raises(InvalidRequest, match="int8 is for the CPU"):
        load({"diffusion": HIGH}, device="meta", precision="int8")


def test_the_next_expert_is_read_early_but_not_at_once(tmp_path: Path) -> None:
    low = Path(shutil.copy(LOW, tmp_path))
    evict(low)
    evictable = not cached(low)  # a file system in memory keeps all
    latents, contexts = inputs()
    with load({"high_noise": HIGH, "low_noise": low}, 0.875, "cpu", "fp32") as experts:
        for timestep in (999.0, 980.0):
            experts.velocity(latents, timestep, contexts[0])
        assert not (evictable and cached(low))
        experts.velocity(latents, 930.0, contexts[0])
        assert wait_until_cached(low)


def test_an_expert_is_gone_before_the_next_one_is_opened(tmp_path: Path) -> None:
    latents, contexts = inputs()
    gc.collect()
    before = sum(issubclass(type(each), WanModel) for each in gc.get_objects())
    with load({"high_noise": HIGH, "low_noise": tmp_path / "none"}, 0.875, "cpu", "bf16") as experts:
        experts.velocity(latents, 900.0, contexts[0])
        with pytest.raises(ModelNotFound):
            experts.velocity(latents, 800.0, contexts[0])
        assert sum(issubclass(type(each), WanModel) for each in gc.get_objects()) <= before


def test_a_walk_sees_every_block_and_may_leave_some_out(experts: Experts) -> None:
    latents, contexts = inputs()
    assert isinstance(experts, BlockDenoiser)
    seen: list[tuple[int, int, torch.Size]] = []

    def all_of_them(x: Tensor, blocks: Sequence[Callable[[Tensor], Tensor]], time: Tensor) -> Tensor:
        seen.append((len(x), len(blocks), time.shape))
        return straight(x, blocks, time)

    whole = experts.velocities(latents, 900.0, contexts)
    walked = experts.walked(latents, 900.0, contexts, None, all_of_them)
    assert all(map(torch.equal, walked, whole))
    assert seen == [(2, 4, torch.Size([2, 1, 256]))]
    shorter = experts.walked(latents, 900.0, contexts[:1], None, lambda x, blocks, time: blocks[0](x))
    assert not torch.equal(shorter[0], whole[0])


def test_a_clip_for_each_context(experts: Experts, precision: str) -> None:
    clips = torch.stack([inputs(seed)[0] for seed in range(2)])
    contexts = inputs()[1]
    each = [experts.velocity(clip, 900.0, context) for clip, context in zip(clips, contexts, strict=True)]
    for ours, theirs in zip(experts.velocities(clips, 900.0, contexts), each, strict=True):
        assert relative(ours, theirs) <= TOLERANCES[precision]
    with pytest.raises(InvalidRequest, match="2 clips for 1 contexts"):
        experts.velocity(clips, 900.0, contexts[0])
