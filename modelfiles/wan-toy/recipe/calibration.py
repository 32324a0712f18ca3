"""Writes the prompts that ``wanrun calibrate`` uses for wan-toy: what training showed, none of the suite."""

from __future__ import annotations

import sys

import captions
import numpy as np
import world
import yaml

COUNT = 240


def prompts() -> list[str]:
    """Different captions, in the order in which they were drawn."""
    rng = np.random.default_rng(80)
    found: dict[str, None] = {}
    while len(found) < COUNT:
        found[captions.caption(world.sample(rng), rng)] = None
    return list(found)


if __name__ == "__main__":
    yaml.safe_dump(prompts(), sys.stdout, width=200)
