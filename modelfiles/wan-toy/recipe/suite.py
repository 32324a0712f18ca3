"""Writes the prompts of ``wanrun evaluate --suite toy``: only combinations that training never showed."""

from __future__ import annotations

import sys
from typing import Any

import captions
import numpy as np
import world
import yaml

PER_MOTION, PAIRS = 10, 40


def prompts() -> list[dict[str, Any]]:
    """100 prompts for one object, ten for each motion, then 40 for two."""
    rng = np.random.default_rng(8)
    entries = []
    for motion in world.MOTIONS:
        entries += [_entry(rng, lambda scene, m=motion: scene.motion == m, 0.0) for _ in range(PER_MOTION)]
    for index in range(PAIRS):
        relation = world.RELATIONS[index % len(world.RELATIONS)]
        entries.append(_entry(rng, lambda scene, r=relation: scene.relation == r, 1.0))
    return [{**entry, "seed": seed} for seed, entry in enumerate(entries)]


def _entry(rng: np.random.Generator, wanted: Any, pairs: float) -> dict[str, Any]:
    while True:
        scene = world.sample(rng, held=True, pairs=pairs)
        if wanted(scene) and not scene.speed:
            break
    return {
        "prompt": captions.caption(scene, rng),
        "objects": [[thing.colour, thing.shape] for thing in scene.things],
        "relation": scene.relation,
        "motion": scene.motion,
        "ground": scene.ground,
    }


if __name__ == "__main__":
    yaml.safe_dump(prompts(), sys.stdout, default_flow_style=None, sort_keys=False, width=200)
