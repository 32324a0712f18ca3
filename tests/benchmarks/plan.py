"""What is planned against what is then measured: peak memory and seconds of real runs, each a process.

Memory is the most that the run's processes hold beside mapped files (RssAnon and RssShmem of /proc). Seconds
are those on the wall, or the processor's if they are fewer, as when the machine was measured: where other
programs run only these can be compared.

    python -m tests.benchmarks.plan [first [last]]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from safetensors.torch import save_file

from wanrun.gguf.ggml import quantize
from wanrun.gguf.writer import TensorSource, write_gguf
from wanrun.wan.tiny import TinyConfig, TinyVAE

_TOY = Path(__file__).parents[2] / "modelfiles" / "wan-toy"
_WIDTH, _FFN_WIDTH, _LAYERS, _TEXT_WIDTH, _CHANNELS = 1024, 4096, 6, 256, 16
_POLL_S = 0.002

#: Bundle and settings of each run.
REQUESTS = (
    "wan-toy --steps 4",
    "wan-toy --steps 2 --frames 33",
    "wan-toy --steps 6 --size 256x256",
    "wan-toy --steps 2 --size 128x128 --frames 9",
    "wan-toy --steps 2 --size 128x128 --decoder tiny",
    "middle --steps 6 --size 192x192",
    "wan-toy --steps 20 --frames 1",
    "wan-toy --steps 2 --size 384x384 --frames 9",
    "wan-toy --steps 2 --precision fp32",
    "wan-toy --steps 1 --size 256x256 --frames 5",
    "middle --steps 2 --size 128x128 --frames 9",
    "middle --steps 1 --size 256x256 --frames 9 --decoder tiny --guidance 1",
)


@dataclass(frozen=True, slots=True)
class Taken:
    """What a run took: bytes at its peak, seconds on the wall and of the processor."""

    memory: int
    wall_s: float
    processor_s: float

    @property
    def seconds(self) -> float:
        return min(self.wall_s, self.processor_s)


def make_bundles(folder: Path) -> None:
    """wan-toy with a random tiny decoder, and ``middle``: experts of a tenth of a billion weights."""
    tiny = {
        name: value.contiguous() for name, value in TinyVAE(TinyConfig(_CHANNELS, 1)).state_dict().items()
    }
    save_file(tiny, folder / "tiny.safetensors")
    for name in ("high", "low"):
        write_expert(folder / f"middle-{name}-noise.gguf", seed=len(name))
    shared = "".join(
        f"{role} {_TOY / file}\n"
        for role, file in (("TEXT_ENCODER", "wan-toy-umt5-F16.gguf"), ("VAE", "wan-toy-vae.safetensors"))
    )
    shared += "PREVIEW tiny.safetensors\n"
    settings = "".join(
        f"PARAMETER {name} {value}\n"
        for name, value in (("size", "64x64"), ("frames", 17), ("fps", 16), ("shift", 3), ("boundary", 0.875),
                            ("guidance_high", 4), ("guidance_low", 4))
    )  # fmt: skip
    toy = "".join(
        f"DIFFUSION {side}_noise {_TOY / f'wan-toy-{side}-noise-Q8_0.gguf'}\n" for side in ("high", "low")
    )
    middle = "".join(f"DIFFUSION {side}_noise middle-{side}-noise.gguf\n" for side in ("high", "low"))
    for name, experts in (("wan-toy", toy), ("middle", middle)):
        path = folder / f"Modelfile.{name}"
        path.write_text(experts + shared + settings, encoding="utf-8")
        _wanrun("create", name, "-f", str(path))


def write_expert(path: Path, seed: int) -> None:
    """A random transformer whose matrices are Q8_0."""
    random = np.random.default_rng(seed)
    write_gguf(path, {"general.architecture": "wan"}, list(_tensors(random)))


def _tensors(random: np.random.Generator) -> Iterator[TensorSource]:
    width, ffn = _WIDTH, _FFN_WIDTH

    def matrix(name: str, rows: int, columns: int) -> Iterator[TensorSource]:
        values = 0.02 * random.standard_normal((rows, columns), np.float32)
        yield f"{name}.weight", "Q8_0", (rows, columns), quantize("Q8_0", values)
        yield f"{name}.bias", "F32", (rows,), np.zeros(rows, np.float32)

    patch = 0.02 * random.standard_normal((width, _CHANNELS, 1, 2, 2), np.float32)
    yield "patch_embedding.weight", "F32", patch.shape, patch
    yield "patch_embedding.bias", "F32", (width,), np.zeros(width, np.float32)
    yield from matrix("text_embedding.0", width, _TEXT_WIDTH)
    yield from matrix("text_embedding.2", width, width)
    yield from matrix("time_embedding.0", width, 256)
    yield from matrix("time_embedding.2", width, width)
    yield from matrix("time_projection.1", 6 * width, width)
    yield "head.modulation", "F32", (1, 2, width), np.zeros((1, 2, width), np.float32)
    yield from matrix("head.head", 4 * _CHANNELS, width)
    for layer in range(_LAYERS):
        block = f"blocks.{layer}."
        yield f"{block}modulation", "F32", (1, 6, width), np.zeros((1, 6, width), np.float32)
        for kind in ("norm3.weight", "norm3.bias"):
            yield f"{block}{kind}", "F32", (width,), np.ones(width, np.float32)
        for attention in ("self_attn", "cross_attn"):
            for each in "qkvo":
                yield from matrix(f"{block}{attention}.{each}", width, width)
            for each in ("norm_q", "norm_k"):
                yield f"{block}{attention}.{each}.weight", "F32", (width,), np.ones(width, np.float32)
        yield from matrix(f"{block}ffn.0", ffn, width)
        yield from matrix(f"{block}ffn.2", width, ffn)


def measure(words: list[str], folder: Path) -> Taken:
    """Run ``wanrun WORDS`` in a process and watch it."""
    started, peak, highest, mapped = time.perf_counter(), 0, 0, 0
    command = [sys.executable, "-m", "wanrun.cli", *words]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            peak = max(peak, sum(map(_held, _family(process.pid))))
            # the system's own record misses nothing, and mapped files only grow until the process ends
            own = _status(process.pid)
            highest = max(highest, own.get("VmHWM", 0))
            mapped = max(mapped, own.get("RssFile", 0))
            time.sleep(_POLL_S)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit((folder / "log").read_text(errors="replace"))
    return Taken(max(peak, highest - mapped), time.perf_counter() - started, usage.ru_utime + usage.ru_stime)


def _family(pid: int) -> list[int]:
    """A process and those that it has started, without one that is still its copy."""
    found = [pid]
    with suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (thread / "children").read_text().split()):
                # until it runs its own program, what it shares with its parent would count twice
                if Path(f"/proc/{child}/cmdline").read_bytes() != command:
                    found += _family(child)
    return found


def _status(pid: int) -> dict[str, int]:
    """The amounts in a process's status, in bytes."""
    with suppress(OSError):
        lines = [line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
        return {line[0][:-1]: int(line[1]) * 1024 for line in lines if line[-1:] == ["kB"]}
    return {}


def _held(pid: int) -> int:
    status = _status(pid)
    return status.get("RssAnon", 0) + status.get("RssShmem", 0)


def _wanrun(*words: str) -> str:
    command = [sys.executable, "-m", "wanrun.cli", *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def main(first: int = 0, last: int = len(REQUESTS)) -> None:
    """Print a line for each run: planned, measured, and their ratio."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        os.environ.setdefault("WANRUN_HOME", str(folder / "home"))
        make_bundles(folder)
        for number, request in enumerate(REQUESTS[first:last], first):
            bundle, *settings = request.split()
            # not seen before, so that the text encoder runs as it is planned to
            words = [bundle, f"a red ball, {time.time_ns()}, {number}", *settings]
            planned = json.loads(_wanrun("plan", *words, "--json"))
            taken = measure(["run", *words, "-o", "out.mp4"], folder)
            memory, seconds = planned["memory"] / taken.memory, planned["seconds"] / taken.seconds
            print(  # noqa: T201
                f"{request:<70} "
                f"memory {planned['memory'] / 1e6:6.0f} of {taken.memory / 1e6:6.0f} MB {memory:5.2f}  "
                f"time {planned['seconds']:6.2f} of {taken.seconds:6.2f} s {seconds:5.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
