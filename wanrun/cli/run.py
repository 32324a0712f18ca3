"""The command that makes a video."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import click

from wanrun import settings
from wanrun.cli.options import parameters
from wanrun.errors import InvalidRequest

_FORMATS = ("mp4", "webm", "gif", "png")


@click.command()
@click.argument("model")
@click.argument("prompt", required=False)
@parameters("size", "frames")
@click.option("--seconds", type=float, metavar="S", help="length of the video, instead of --frames")
@parameters(
    "fps",
    "steps",
    "guidance",
    "guidance_high",
    "guidance_low",
    "sampler",
    "schedule",
    "shift",
    "boundary",
    "seed",
    "precision",
    "decoder",
)
@click.option("--negative", metavar="TEXT", help="what the video must not show")
@click.option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:N, mps or xpu")
@click.option("-o", "--output", metavar="FILE", help="where to write; by default a name made of the prompt")
@click.option(
    "--format", "file_format", type=click.Choice(_FORMATS), help="by default what FILE ends in, or mp4"
)
@click.option("--json", "as_json", is_flag=True, help="print the result as one JSON object")
def run(
    model: str,
    prompt: str | None,
    device: str | None,
    output: str | None,
    file_format: str | None,
    as_json: bool,
    **asked: Any,
) -> None:
    """Make a video with MODEL from PROMPT, or from standard input.

    What is not given comes from the model's Modelfile. The bar's phases are the prompt, the denoising steps
    and the decoding, during which frames are written as they come.
    """
    # before torch is imported, which reads it once
    os.environ.setdefault("OMP_NUM_THREADS", str(settings.threads()))
    from wanrun import load, pipeline
    from wanrun.cli.progress import shown
    from wanrun.request import resolve
    from wanrun.video.writer import open_writer

    started = time.monotonic()
    bundle = load(model)
    request = resolve(bundle, _prompt(prompt), asked)
    for note in request.notes:
        click.echo(f"Note: {note}", err=True)
    path = Path(output) if output else _free_name(request.prompt, request.seed, file_format or "mp4")
    described = pipeline.provenance(bundle, request)
    with open_writer(path, request.fps, file_format, described) as writer, shown(quiet=as_json) as progress:
        for frame in pipeline.run(bundle, request, progress, device or settings.get("device")):
            writer.write(frame)
    elapsed_s = time.monotonic() - started
    if as_json:
        click.echo(json.dumps({"path": str(writer.path), "seconds": round(elapsed_s, 3), **described}))
    else:
        what = f"{request.width}x{request.height}, {request.frames} frames, seed {request.seed}"
        click.echo(f"{writer.path}  ({what}, {elapsed_s:.1f} s)")


def _prompt(prompt: str | None) -> str:
    if prompt is None:
        if sys.stdin.isatty():
            raise click.UsageError("say what the video shows: wanrun run MODEL PROMPT")
        prompt = sys.stdin.read(1_000_001).strip()
    if not prompt.strip():
        raise InvalidRequest("the prompt is empty: say what the video shows")
    return prompt


def _free_name(prompt: str, seed: int, ending: str) -> Path:
    """A new file in the working folder, named after the prompt's first words."""
    words = re.sub(r"[^\w]+", "-", prompt.lower()).strip("-_")[:50].strip("-_") or "video"
    for number in range(1, 10_000):
        path = Path(f"{words}-{seed}{'' if number == 1 else f'-{number}'}.{ending}")
        if not path.exists() and not path.with_suffix("").exists():
            return path
    raise InvalidRequest(f"10,000 files are already named {words}-{seed}; give another with -o")
