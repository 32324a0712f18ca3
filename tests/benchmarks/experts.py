"""A clip from two experts in the shape of Wan2.2 A14B: ``python -m tests.benchmarks.experts [--scale 1]``.

Writes two Q4_K_M files of about 9 GB of random weights each into TMPDIR, makes a clip of them in a process of
its own, and prints the seconds and the peak of anonymous memory. ``--scale 0.1`` keeps a tenth of the blocks.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.benchmarks.checkpoints import write_transformer, write_vae
from tests.benchmarks.children import run_child
from tests.benchmarks.peers import show
from wanrun.wan.config import WanConfig

_LAYERS, _BOUNDARY = 40, 0.875


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="part of the 40 blocks of each expert")
    parser.add_argument("--width", type=int, default=5120, help="of the transformer, a multiple of 256")
    parser.add_argument("--vae-width", type=int, default=96)
    parser.add_argument("--size", default="480x320x17", metavar="WxHxF")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--mix", default="Q4_K_M")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args(arguments)
    layers = max(1, round(given.scale * _LAYERS))
    config = WanConfig(given.width, given.width * 27 // 10 // 256 * 256, layers, 16, 16, 4096)
    with TemporaryDirectory() as folder:
        files = {role: str(Path(folder) / f"{role}.gguf") for role in ("high_noise", "low_noise")}
        begin = time.perf_counter()
        for path in files.values():
            write_transformer(Path(path), config, given.mix)
        gigabytes = sum(Path(path).stat().st_size for path in files.values()) / 1e9
        show(f"{gigabytes:.2f} GB in two experts, written in {time.perf_counter() - begin:.0f} s")
        vae = Path(folder) / "vae.safetensors"
        write_vae(vae, given.vae_width)
        task = {
            "contender": "wanrun", "measure": "video", "experts": files, "boundary": _BOUNDARY,
            "vae": str(vae), "size": [int(side) for side in given.size.split("x")], "steps": given.steps,
            "text_width": config.text_width, "threads": given.threads, "device": "cpu",
        }  # fmt: skip
        outcome = run_child("tests.benchmarks.contender", task)
    if outcome.problem:
        show(f"FAILED: {outcome.problem}")
        return 1
    show(
        f"{given.size}, {given.steps} steps, {given.threads} threads: {outcome.told['video']:.1f} s for"
        f" {outcome.told['frames']} frames, peak of {outcome.peak_bytes / 1e9:.2f} GB of anonymous memory"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
