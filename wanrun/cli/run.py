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
from wanrun.cli.options import request_options
from wanrun.cli.plan import SOME_PROMPT, checked, show_plan, summary
from wanrun.cli.saving import FORMATS, Video, save
from wanrun.errors import InvalidRequest
from wanrun.runtime import runs
from wanrun.runtime.runs import Run
from wanrun.types import Bundle, GenerationRequest


@click.command()
@click.argument("model", required=False)
@click.argument("prompt", required=False)
@request_options
@click.option("-o", "--output", metavar="FILE", help="where to write; by default a name made of the prompt")
@click.option(
    "--format", "file_format", type=click.Choice(FORMATS), help="by default what FILE ends in, or mp4"
)
@click.option("--json", "as_json", is_flag=True, help="print the result as one JSON object")
@click.option("--plan", "only_plan", is_flag=True, help="say what the run would take, and stop")
@click.option("--resume", metavar="ID", help="continue an interrupted run, instead of MODEL and PROMPT")
def run(
    model: str | None,
    prompt: str | None,
    resume: str | None,
    device: str | None,
    memory: int | None,
    only_plan: bool,
    output: str | None,
    file_format: str | None,
    as_json: bool,
    **asked: Any,
) -> None:
    """Make a video with MODEL from PROMPT, or from standard input.

    What is not given comes from the model's Modelfile. The bar's phases are the prompt, the denoising steps
    and the decoding, during which frames are written as they come. A run that would not fit in memory does
    not start; an interrupted one says how to continue.
    """
    # before torch is imported, which reads it once
    os.environ.setdefault("OMP_NUM_THREADS", str(settings.threads()))
    started = time.monotonic()
    if resume:
        kept, bundle, request = _resumed(resume, model, asked)
    else:
        kept, bundle, request = _asked(model, SOME_PROMPT if only_plan and not prompt else prompt, asked)
    for note in request.notes:
        click.echo(f"Note: {note}", err=True)
    device = device or settings.get("device")
    if only_plan:
        show_plan(bundle, request, device, memory, as_json)
        return
    planned = checked(bundle, request, device, memory, quiet=as_json)
    if planned is not None and not as_json and kept is None:
        click.echo(f"Plan: {summary(planned)}", err=True)
    from wanrun.runtime.generate import frames

    kept = kept or runs.begin(settings.home(), bundle, request)
    with _resumable(kept):
        resident = None if planned is None else planned.resident
        made = partial(frames, kept, bundle, request, device=device, resident_bytes=resident)
        save(made, Video(bundle, request, output, file_format), as_json, started)


def _asked(
    model: str | None, prompt: str | None, asked: dict[str, Any]
) -> tuple[Run | None, Bundle, GenerationRequest]:
    from wanrun import load
    from wanrun.request import resolve

    if model is None:
        raise click.UsageError("say which model to use: wanrun run MODEL PROMPT")
    bundle = load(model)
    return None, bundle, resolve(bundle, _prompt(prompt), asked)


def _resumed(
    run_id: str, model: str | None, asked: dict[str, Any]
) -> tuple[Run | None, Bundle, GenerationRequest]:
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
