"""The recipe of wan-toy: its world, and training that continues where it was interrupted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from tests.recipe import modules


@pytest.fixture(scope="module")
def recipe() -> Iterator[dict[str, ModuleType]]:
    with modules() as found:
        yield found


def test_scenes_are_drawn_as_captioned(recipe: dict[str, ModuleType]) -> None:
    world = recipe["world"]
    rng = np.random.default_rng(0)
    scenes = [world.sample(rng) for _ in range(60)]
    clips = world.render(scenes)
    assert clips.shape == (60, 3, 17, 64, 64)
    assert float(clips.min()) >= -1
    assert float(clips.max()) <= 1
    assert {len(scene.things) for scene in scenes} == {1, 2}
    for scene, clip in zip(scenes, clips, strict=True):
        text = recipe["captions"].caption(scene, rng).lower()
        assert all(thing.colour in text for thing in scene.things)
        assert scene.ground.replace("gray", "gr") in text
        assert scene.speed in text
        assert not any(world.held_out(thing.colour, thing.shape, scene.ground) for thing in scene.things)
        moved = float((clip[:, 0] - clip[:, -1]).abs().max())
        middle = float((clip[:, 0] - clip[:, 8]).abs().max())
        assert (max(moved, middle) < 0.01) == (scene.motion == "staying still")


def test_objects_stay_in_the_picture(recipe: dict[str, ModuleType]) -> None:
    world = recipe["world"]
    rng = np.random.default_rng(1)
    for clip in world.render([world.sample(rng, pairs=0.5) for _ in range(100)]):
        border = torch.cat([clip[..., 0, :], clip[..., :, 0], clip[..., :, -1]], dim=-1)
        assert float((border - border[..., :1]).abs().max()) < 0.02


def test_some_combinations_are_held_out(recipe: dict[str, ModuleType]) -> None:
    world = recipe["world"]
    rng = np.random.default_rng(0)
    held = [world.sample(rng, held=True) for _ in range(50)]
    for scene in held:
        assert any(world.held_out(thing.colour, thing.shape, scene.ground) for thing in scene.things)
    assert {thing.colour for scene in held for thing in scene.things} == set(world.COLOURS)


def test_interrupted_training_continues_to_the_same_weights(
    recipe: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, run = recipe["train_vae"], recipe["checkpoint"].Run
    monkeypatch.setitem(train.SHAPES, "vae", ((1.0, (2, 1, 32)),))
    whole = train.train(run(tmp_path / "whole", "vae", 4, "cpu", 0.0))

    batch, calls = train.batch, 0

    def interrupted(*arguments: object) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        result: torch.Tensor = batch(*arguments)
        return result

    monkeypatch.setattr(train, "batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train.train(run(tmp_path / "cut", "vae", 4, "cpu", 0.0))
    resumed = train.train(run(tmp_path / "cut", "vae", 4, "cpu", 0.0))
    assert calls == 5
    for mine, theirs in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@torch.no_grad()
def test_folding_the_statistics_normalises_latents_and_changes_no_picture(
    recipe: dict[str, ModuleType],
) -> None:
    train, prepare, world = recipe["train_vae"], recipe["prepare"], recipe["world"]
    torch.manual_seed(0)
    vae = train.WanVAE(train.CONFIG)
    clip = world.render([world.sample(np.random.default_rng(1))])[:, :, :5]
    before = vae.decode(vae.encode(clip, {}), {})
    prepare.normalise(vae, clips=8)
    rng = np.random.default_rng(2)
    latents = vae.encode(world.render([world.sample(rng) for _ in range(8)]), {}).transpose(0, 1).flatten(1)
    assert torch.allclose(latents.mean(1), torch.zeros(16), atol=0.02)  # they are measured in bfloat16
    assert torch.allclose(latents.std(1), torch.ones(16), atol=0.02)
    assert torch.allclose(vae.decode(vae.encode(clip, {}), {}), before, atol=1e-3)


def test_noise_levels_lie_within_the_experts_range(recipe: dict[str, ModuleType]) -> None:
    train = recipe["train_dit"]
    generator = torch.Generator().manual_seed(0)
    for (low, high), *_ in train.STAGES.values():
        sigma = train.sigmas(1000, low, high, generator)
        assert low <= float(sigma.min()) < float(sigma.max()) <= high
