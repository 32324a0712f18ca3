"""wanrun against its peers on the same files: ``python -m tests.benchmarks.peers [--quick]``.

Writes one transformer of random weights in the shape of Wan2.1 T2V 1.3B per quantisation, and a random VAE
of its width, into TMPDIR; runs each contender in processes of its own, in turn; prints seconds, how many
times as fast wanrun is, the part of the machine's bf16 rate in matrix products (measured in the same run)
that the network's definition needs, and the peak of anonymous memory. What a contender cannot do is a row
that says why.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from tests.benchmarks.checkpoints import write_encoder, write_tiny, write_transformer, write_vae
from tests.benchmarks.children import Outcome, run_child
from tests.benchmarks.contender import TEXT_TOKENS
from tests.benchmarks.limits import Size, forward_flop, tiny_flop, vae_flop
from wanrun.convert.umt5 import UMT5Config
from wanrun.wan.config import WanConfig

STEPS = 4
MEASURES = ("forward", "vae", "tiny", "video")
PEERS = ("wanrun", "wanrun int8", "diffusers", "stable-diffusion.cpp")
#: Room for unpacked weights, as a machine of 24 GB has it.
_RESIDENT_BYTES = 8_000_000_000
_CHILD = "tests.benchmarks.contender"


@dataclass(frozen=True, slots=True)
class Scale:
    """How large the networks and the clips are."""

    transformer: WanConfig
    vae_width: int
    sizes: tuple[Size, ...]
    encoder: UMT5Config


FULL = Scale(
    WanConfig(1536, 8960, 30, 16, 16, 4096),
    96,
    ((256, 256, 17), (480, 320, 33)),
    UMT5Config(vocabulary=256_384, d_model=4096, d_ff=10_240, layers=24, heads=64),
)
QUICK = Scale(
    WanConfig(256, 512, 2, 16, 16, 256),
    16,
    ((64, 64, 5),),
    UMT5Config(vocabulary=256_384, d_model=256, d_ff=512, layers=1, heads=4),
)


def flop(scale: Scale, size: Size) -> dict[str, float]:
    """What each measure needs by the networks' definition."""
    counts = {
        "forward": forward_flop(scale.transformer, size, TEXT_TOKENS),
        "vae": vae_flop(scale.vae_width, size),
        "tiny": tiny_flop(size),
    }
    return counts | {"video": STEPS * counts["forward"] + counts["vae"]}


@dataclass(frozen=True, slots=True)
class Asked:
    """What to measure of whom, where."""

    measures: tuple[str, ...]
    peers: tuple[str, ...]
    threads: int
    device: str


def compare(scale: Scale, mix: str, folder: Path, asked: Asked) -> None:
    """Print the table of one quantisation."""
    threads, device = asked.threads, asked.device
    files = {name: str(folder / f"{name}.{end}") for name, end in _FILES.items()}
    write_transformer(Path(files["transformer"]), scale.transformer, mix)
    common = files | {"experts": {"diffusion": files["transformer"]}, "threads": threads, "steps": STEPS}
    common |= {"text_width": scale.transformer.text_width, "device": device}
    common["resident_bytes"] = _RESIDENT_BYTES if device == "cpu" else None
    rate = run_child(_CHILD, common | {"contender": "gemm"}).told["rate"]
    gigabytes = Path(files["transformer"]).stat().st_size / 1e9
    show(
        f"\n{mix}, {gigabytes:.2f} GB, {device}, {threads} threads, bf16 products at {rate / 1e9:.0f} GFLOP/s"
    )
    for size in scale.sizes:
        needed = flop(scale, size)
        title = "x".join(map(str, size))
        show(f"\n{title:<36}{'seconds':>9}{'ratio':>8}{'of limit':>10}{'peak MB':>9}")
        found = {peer: _outcomes(peer, common | {"size": size}, asked.measures) for peer in asked.peers}
        for measure in asked.measures:
            ours = found["wanrun"][measure].told.get(measure) if "wanrun" in found else None
            for peer in asked.peers:
                _row(measure, peer, found[peer][measure], ours, needed[measure] / rate)


_FILES = {"transformer": "gguf", "vae": "safetensors", "tiny": "safetensors", "encoder": "gguf"}


def _outcomes(peer: str, task: dict[str, Any], measures: tuple[str, ...]) -> dict[str, Outcome]:
    """By measure. One run of stable-diffusion.cpp tells all, as its package has no separate stages."""
    if peer == "stable-diffusion.cpp":
        whole = run_child(_CHILD, task | {"contender": peer, "measure": "video"})
        tiny = run_child(_CHILD, task | {"contender": peer, "measure": "tiny"})
        return {measure: tiny if measure == "tiny" else whole for measure in measures}
    return {
        measure: run_child(_CHILD, task | {"contender": peer, "measure": measure}) for measure in measures
    }


def _row(measure: str, peer: str, outcome: Outcome, ours: float | None, limit_s: float) -> None:
    name = f"{measure:<14}{peer:<22}"
    if outcome.problem:
        show(f"{name}  SKIPPED: {outcome.problem}")
        return
    taken = outcome.told[measure]
    ratio = "" if ours is None else f"{taken / ours:.2f}"
    show(f"{name}{taken:>9.2f}{ratio:>8}{limit_s / taken:>10.0%}{outcome.peak_bytes / 1e6:>9.0f}")


def show(line: str) -> None:
    print(line, flush=True)  # noqa: T201


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small networks: does it work at all?")
    parser.add_argument("--mix", action="append", help="Q8_0 and Q4_K_M unless given")
    parser.add_argument("--size", action="append", metavar="WxHxF", help="instead of the usual ones")
    parser.add_argument("--measure", action="append", choices=MEASURES, help="all unless given")
    parser.add_argument("--peer", action="append", choices=PEERS, help="all unless given")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    given = parser.parse_args(arguments)
    if given.device != "cpu" and not torch.cuda.is_available():
        show(f"NOT MEASURED: this machine has no {given.device} device")
        return 0
    scale = QUICK if given.quick else FULL
    if given.size:
        sizes = tuple(tuple(map(int, text.split("x"))) for text in given.size)
        scale = Scale(scale.transformer, scale.vae_width, sizes, scale.encoder)  # type: ignore[arg-type]
    asked = Asked(tuple(given.measure or MEASURES), tuple(given.peer or PEERS), given.threads, given.device)
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_vae(folder / "vae.safetensors", scale.vae_width)
        write_tiny(folder / "tiny.safetensors")
        if "stable-diffusion.cpp" in asked.peers and _installed("stable_diffusion_cpp"):
            write_encoder(folder / "encoder.gguf", scale.encoder)
        for mix in given.mix or ("Q8_0", "Q4_K_M"):
            compare(scale, mix, folder, asked)
    return 0


def _installed(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is not None


if __name__ == "__main__":
    sys.exit(main())
