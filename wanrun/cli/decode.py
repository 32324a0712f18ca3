"""The command that turns saved latents into a video."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import click

from wanrun import settings
from wanrun.cli.options import parameters
from wanrun.cli.saving import FORMATS, Video, save
from wanrun.errors import InvalidRequest
from wanrun.runtime import runs


@click.command()
@click.argument("latents")
@click.option("--model", metavar="NAME", help="another model than the one that made them")
@parameters("precision", "decoder")
@click.option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:N, mps or xpu")
@click.option("-o", "--output", metavar="FILE", help="where to write; by default a name made of the prompt")
@click.option(
    "--format", "file_format", type=click.Choice(FORMATS), help="by default what FILE ends in, or mp4"
)
@click.option("--json", "as_json", is_flag=True, help="print the result as one JSON object")
def decode(
    latents: str,
    model: str | None,
    precision: str | None,
    decoder: str | None,
    device: str | None,
    output: str | None,
    file_format: str | None,
    as_json: bool,
) -> None:
    """Make a video of LATENTS, a file or the ID of a run that stopped after its last step."""
    os.environ.setdefault("OMP_NUM_THREADS", str(settings.threads()))  # torch reads it once
    from wanrun import load, pipeline
    from wanrun.decoders.latents import unpack

    started = time.monotonic()
    path = Path(latents)
    if not path.exists():
        path = runs.find(settings.home(), latents).latents
    values, described = unpack(path)
    if not {"model", "request"} <= described.keys():
        raise InvalidRequest(f"{path} does not say which model made it")
    bundle = load(model or str(described["model"]))
    request = runs.parse_request(described["request"], str(path))
    request = replace(request, decoder=decoder or request.decoder, precision=precision or request.precision)
    made = partial(
        pipeline.latents_to_frames, bundle, request, values, device=device or settings.get("device")
    )
    video = Video(bundle, request, output, file_format)
    video.tally.recall(described.get("cache"))
    save(made, video, as_json, started)
