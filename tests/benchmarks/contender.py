"""One contender's measurement, in a process of its own: ``python -m tests.benchmarks.contender TASK``.

TASK is JSON: the contender, what to measure, the files, the size and the number of steps. Seconds of a
forward pass and of a decode are the better of two; end to end is once, from the files to the frames, without
the text encoder: every contender gets a random context of 24 tokens, or a prompt of about as many.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import wanrun
from wanrun import plugins

TEXT_TOKENS, SHIFT, SEED = 24, 5.0, 0
_GEMM = 2048


def seconds(work: Callable[[], object], rounds: int = 2) -> float:
    """Of the fastest of ``rounds`` calls."""
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


def inputs(task: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Random latents (16, frames, height, width) and a random context (tokens, width)."""
    width, height, frames = task["size"]
    generator = torch.Generator().manual_seed(SEED)
    latents = torch.randn(16, (frames - 1) // 4 + 1, height // 8, width // 8, generator=generator)
    return latents, torch.randn(TEXT_TOKENS, task["text_width"], generator=generator)


def euler(velocity: Callable[[Tensor, float], Tensor], latents: Tensor, steps: int) -> Tensor:
    """``steps`` steps down a shifted schedule."""
    levels = torch.linspace(1, 0, steps + 1)
    levels = SHIFT * levels / (1 + (SHIFT - 1) * levels)
    for level, after in zip(levels[:-1].tolist(), levels[1:].tolist(), strict=True):
        latents = latents + (after - level) * velocity(latents, 1000 * level)
    return latents


def gemm(task: dict[str, Any]) -> dict[str, Any]:
    """The machine's rate of bf16 multiplications in large matrices, FLOP a second."""
    side = _GEMM if task["device"] == "cpu" else 4 * _GEMM
    left, right = (torch.randn(side, side, device=task["device"]).bfloat16() for _ in range(2))
    # reading one number waits for the device
    return {"rate": 2 * side**3 / seconds(lambda: float((left @ right)[0, 0]), rounds=5)}


def of_wanrun(task: dict[str, Any]) -> dict[str, Any]:
    """wanrun through its public functions, in the task's precision."""
    latents, context = inputs(task)
    measure, device, precision = task["measure"], task["device"], task.get("precision", "auto")
    if measure in ("vae", "tiny"):
        if precision == "int8":
            raise NotImplementedError("8 bits are for the transformer only")
        with wanrun.load_decoder(task[measure], device=device) as decoder:
            return {measure: seconds(lambda: list(decoder.frames(latents)))}
    begin = time.perf_counter()
    files = {role: Path(path) for role, path in task["experts"].items()}
    backend = plugins.load("backends", "torch")
    with backend(files, task.get("boundary"), device, precision, task.get("resident_bytes")) as denoiser:
        if measure == "forward":
            return {measure: seconds(lambda: denoiser.velocity(latents, 900.0, context))}
        clean = euler(lambda x, t: denoiser.velocity(x, t, context), latents, task["steps"])
    with wanrun.load_decoder(task["vae"], device=device) as decoder:
        frames = sum(1 for _ in decoder.frames(clean))
    return {measure: time.perf_counter() - begin, "frames": frames}


def of_diffusers(task: dict[str, Any]) -> dict[str, Any]:
    """diffusers' transformer over the packed GGUF and its VAE, both in bf16."""
    from tests.benchmarks import diffusers_parts as parts

    measure, device = task["measure"], task["device"]
    latents, context = (value.to(device) for value in inputs(task))
    if measure == "tiny":
        raise NotImplementedError("diffusers has no tiny decoder for Wan")
    with torch.inference_mode():
        if measure == "vae":
            vae = parts.load_vae(Path(task["vae"])).to(device)
            return {measure: seconds(lambda: parts.decode(vae, latents).cpu())}
        begin = time.perf_counter()
        model = parts.load_transformer(Path(task["transformer"])).to(device)
        velocity = partial(parts.velocity, model, context)
        if measure == "forward":
            return {measure: seconds(lambda forward=velocity: forward(latents, 900.0).cpu())}  # type: ignore[misc]
        clean = euler(velocity, latents, task["steps"])
        del model, velocity
        frames = parts.decode(parts.load_vae(Path(task["vae"])).to(device), clean).cpu().shape[2]
        return {measure: time.perf_counter() - begin, "frames": frames}


def of_stable_diffusion_cpp(task: dict[str, Any]) -> dict[str, Any]:
    """stable-diffusion.cpp through its Python package; one run tells of steps, decode and all of it."""
    try:
        from stable_diffusion_cpp import StableDiffusion
    except ImportError as error:
        raise NotImplementedError("not installed: pip install -e '.[bench]'") from error
    if task["measure"] == "tiny":
        raise NotImplementedError("its tiny decoder wants another file")
    if task["device"] != "cpu":
        raise NotImplementedError("its package is built for the CPU here")
    width, height, frames = task["size"]
    steps, ends = task["steps"], []
    model = StableDiffusion(
        diffusion_model_path=task["transformer"], vae_path=task["vae"], t5xxl_path=task["encoder"],
        n_threads=torch.get_num_threads(), diffusion_flash_attn=True, vae_conv_direct=True, verbose=False,
    )  # fmt: skip

    def note(step: int, of: int, _: float) -> None:
        if of == steps:  # loading and tiles report their progress, too
            ends.append(time.perf_counter())

    made = model.generate_video(
        "a red ball that bounces over a blue table in the evening sun, seen from the side",
        width=width, height=height, video_frames=frames, sample_steps=steps, cfg_scale=1.0,
        sample_method="euler", flow_shift=SHIFT, seed=SEED, progress_callback=note,
    )  # fmt: skip
    finished = time.perf_counter()
    step = min(after - before for before, after in pairwise(ends))
    decode = finished - ends[-1]
    return {"forward": step, "vae": decode, "video": steps * step + decode, "frames": len(made)}


CONTENDERS = {
    "gemm": gemm,
    "wanrun": of_wanrun,
    "wanrun int8": lambda task: of_wanrun(task | {"precision": "int8"}),
    "diffusers": of_diffusers,
    "stable-diffusion.cpp": of_stable_diffusion_cpp,
}


def main() -> int:
    task = json.loads(sys.argv[1])
    torch.set_num_threads(task["threads"])
    try:
        told = CONTENDERS[task["contender"]](task)
    except NotImplementedError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 3
    print(json.dumps(told))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
