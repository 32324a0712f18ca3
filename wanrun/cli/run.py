"""The command that makes a video."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import click

from wanrun import load, settings
from wanrun.cli.making import Way, make, make_here, tell_notes
from wanrun.cli.options import request_options, with_loras
from wanrun.cli.plan import SOME_PROMPT, show_plan
from wanrun.cli.resolving import resolved
from wanrun.cli.saving import FORMATS
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
    """Make a video with MODEL from PROMPT, from standard input, or from what is typed at a terminal.

    What is not given comes from the model's Modelfile. The bar's phases are the prompt, the denoising steps
    and the decoding, during which frames are written as they come. A run that would not fit in memory does
    not start; an interrupted one says how to continue. A server that answers at WANRUN_HOST makes the video
    if it has the same model, unless a device or an amount of memory is named.
    """
    # before torch is imported, which reads it once
    os.environ.setdefault("OMP_NUM_THREADS", str(settings.threads()))
    started = time.monotonic()
    way = Way(device, memory, output, file_format, as_json)
    if resume:
        kept, bundle, request = _resumed(resume, model, asked)
        tell_notes(request)
        if only_plan:
            show_plan(bundle, request, device or settings.get("device"), memory, as_json)
        else:
            make_here(bundle, request, way, started, kept)
        return
    if model is None:
        raise click.UsageError("say which model to use: wanrun run MODEL PROMPT")
    asked = with_loras(asked, as_json)
    if only_plan:
        _plan(load(model), prompt or SOME_PROMPT, asked, way)
    elif prompt is None and sys.stdin.isatty():
        _ask(model, asked, way)
    else:
        bundle = load(model)
        make(bundle, _prompt(prompt), asked, way, started)


def _plan(bundle: Bundle, prompt: str, asked: dict[str, Any], way: Way) -> None:
    request, _ = resolved(bundle, prompt, asked, way.device, way.memory)
    tell_notes(request)
    show_plan(bundle, request, way.device or settings.get("device"), way.memory, way.as_json)


def _ask(model: str, asked: dict[str, Any], way: Way) -> None:
    """Make the videos that a person at a terminal asks for, one after the other."""
    from wanrun.cli.interactive import Session

    if not sys.stdout.isatty() or way.output:
        raise click.UsageError("say what the video shows: wanrun run MODEL PROMPT")
    Session(load(model), asked, way).run()


def _resumed(run_id: str, model: str | None, asked: dict[str, Any]) -> tuple[Run, Bundle, GenerationRequest]:
    if model is not None or any(value not in (None, ()) for value in asked.values()):
        raise click.UsageError("--resume continues a run as it was begun: give no model, prompt or settings")
    kept = runs.find(settings.home(), run_id)
    bundle = load(runs.model(kept))
    return kept, bundle, runs.request(kept, bundle)


def _prompt(prompt: str | None) -> str:
    if prompt is None:
        prompt = sys.stdin.read(1_000_001).strip()
    if not prompt.strip():
        raise InvalidRequest("the prompt is empty: say what the video shows")
    return prompt
