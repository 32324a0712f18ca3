"""The command that makes a video."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import click

from wanrun import settings
from wanrun.cli.options import parameters
from wanrun.cli.saving import FORMATS, Video, save
from wanrun.errors import InvalidRequest
from wanrun.runtime import runs
from wanrun.runtime.runs import Run
from wanrun.types import Bundle, GenerationRequest


@click.command()
@click.argument("model", required=False)
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
    "--format", "file_format", type=click.Choice(FORMATS), help="by default what FILE ends in, or mp4"
)
@click.option("--json", "as_json", is_flag=True, help="print the result as one JSON object")
@click.option("--resume", metavar="ID", help="continue an interrupted run, instead of MODEL and PROMPT")
def run(
    model: str | None,
    prompt: str | None,
    resume: str | None,
    device: str | None,
    output: str | None,
    file_format: str | None,
    as_json: bool,
    **asked: Any,
) -> None:
    """Make a video with MODEL from PROMPT, or from standard input.

    What is not given comes from the model's Modelfile. The bar's phases are the prompt, the denoising steps
    and the decoding, during which frames are written as they come. An interrupted run says how to continue.
    """
    # before torch is imported, which reads it once
    os.environ.setdefault("OMP_NUM_THREADS", str(settings.threads()))
    from wanrun.runtime.generate import frames

    started = time.monotonic()
    kept, bundle, request = _resumed(resume, model, asked) if resume else _begun(model, prompt, asked)
    for note in request.notes:
        click.echo(f"Note: {note}", err=True)
    with _resumable(kept):
        made = partial(frames, kept, bundle, request, device=device or settings.get("device"))
        save(made, Video(bundle, request, output, file_format), as_json, started)


Begun = tuple[Run, Bundle, GenerationRequest]


def _begun(model: str | None, prompt: str | None, asked: dict[str, Any]) -> Begun:
    from wanrun import load
    from wanrun.request import resolve

    if model is None:
        raise click.UsageError("say which model to use: wanrun run MODEL PROMPT")
    bundle = load(model)
    request = resolve(bundle, _prompt(prompt), asked)
    return runs.begin(settings.home(), bundle, request), bundle, request


def _resumed(run_id: str, model: str | None, asked: dict[str, Any]) -> Begun:
    from wanrun import load

    if model is not None or any(value is not None for value in asked.values()):
        raise click.UsageError("--resume continues a run as it was begun: give no model, prompt or settings")
    kept = runs.find(settings.home(), run_id)
    bundle = load(runs.model(kept))
    return kept, bundle, runs.request(kept, bundle)


@contextmanager
def _resumable(kept: Run) -> Iterator[None]:
    """Forget the run once it is over; keep it when there is something to continue, and say how."""
    try:
        yield
    except BaseException:
        if kept.started:
            click.echo(f"Stopped. To continue from there: wanrun run --resume {kept.id}", err=True)
        else:
            kept.forget()
        raise
    kept.forget()


def _prompt(prompt: str | None) -> str:
    if prompt is None:
        if sys.stdin.isatty():
            raise click.UsageError("say what the video shows: wanrun run MODEL PROMPT")
        prompt = sys.stdin.read(1_000_001).strip()
    if not prompt.strip():
        raise InvalidRequest("the prompt is empty: say what the video shows")
    return prompt
