"""The command that says what a run would take, and what ``run`` says of it before it starts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from wanrun import settings
from wanrun.cli.options import request_options, with_loras
from wanrun.cli.resolving import resolved
from wanrun.cli.tables import table
from wanrun.errors import InvalidRequest, WanrunError
from wanrun.types import Bundle, GenerationRequest

if TYPE_CHECKING:
    from wanrun.runtime.planner import Plan

_TITLES = {"start": "starting", "text": "text encoder", "vae": "VAE", "tiny": "tiny decoder"}
#: Of ordinary length, for the prompt that is not known yet.
SOME_PROMPT = 20 * "word "
_MEASURING = "Measuring this machine; it happens once and takes some seconds."


@click.command()
@click.argument("model")
@click.argument("prompt", required=False)
@request_options
@click.option("--json", "as_json", is_flag=True, help="print the plan as one JSON object")
def plan(
    model: str, prompt: str | None, device: str | None, memory: int | None, as_json: bool, **asked: Any
) -> None:
    """Say what a run of MODEL with these settings would take: seconds and memory of each phase.

    Nothing is loaded. Exits with 1 when it would not fit in memory, and names settings that would.
    """
    from wanrun import load

    bundle = load(model)
    given = with_loras(asked, as_json)
    request, _ = resolved(bundle, prompt or SOME_PROMPT, given, device, memory)
    for note in request.notes:
        click.echo(f"Note: {note}", err=True)
    show_plan(bundle, request, device or settings.get("device"), memory, as_json)


def show_plan(
    bundle: Bundle, request: GenerationRequest, device: str, memory: int | None, as_json: bool
) -> None:
    """Print the plan; OutOfMemoryBudget afterwards when it does not fit."""
    from wanrun.runtime.estimate import open_estimator

    _announce(device, as_json)
    estimator = open_estimator(bundle, device, memory)
    planned = estimator.plan(request)
    click.echo(json.dumps(_described(planned)) if as_json else _tabulated(planned))
    estimator.check(request)


def checked(
    bundle: Bundle, request: GenerationRequest, device: str, memory: int | None, quiet: bool
) -> Plan | None:
    """The plan of a run that fits; OutOfMemoryBudget otherwise.

    None, with a note, on a machine that cannot be measured: that is no reason not to run.
    """
    from wanrun.runtime.estimate import open_estimator

    _announce(device, quiet)
    try:
        estimator = open_estimator(bundle, device, memory)
    except InvalidRequest:
        raise
    except WanrunError as error:
        click.echo(f"Note: this run is not planned: {error}", err=True)
        return None
    return estimator.check(request)


def summary(planned: Plan) -> str:
    """A plan in one line."""
    return in_one_line(planned.memory, planned.pages, planned.device, planned.device_memory, planned.seconds)


def in_one_line(memory: int, pages: int, device: str, device_memory: int, seconds: float) -> str:
    """What a run takes: bytes of memory, of mapped files and on the device, and seconds."""
    from wanrun.runtime.advice import gigabytes

    where = f" and {gigabytes(device_memory)} on {device}" if device_memory else ""
    files = f" beside {gigabytes(pages)} of mapped weights" if pages else ""
    return f"{gigabytes(memory)} of memory{where}{files}, about {duration(seconds)}"


def duration(seconds: float) -> str:
    """``8 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _announce(device: str, quiet: bool) -> None:
    from wanrun.runtime import machine

    if not quiet and machine.load(device) is None:
        click.echo(_MEASURING, err=True)


def _tabulated(planned: Plan) -> str:
    from wanrun.runtime.advice import gigabytes

    on_device = planned.device_memory > 0
    header = ["PHASE", "TIME", "MEMORY", "MAPPED FILES"] + ([planned.device.upper()] if on_device else [])
    rows = []
    for phase in planned.phases:
        title = _TITLES.get(phase.name, phase.name.replace("_", " "))
        row = [title, duration(phase.seconds), gigabytes(phase.memory), gigabytes(phase.pages)]
        rows.append(row + ([gigabytes(phase.device_memory)] if on_device else []))
    fits = "fits" if planned.fits else "does not fit"
    limit = gigabytes(planned.device_limit if on_device else planned.limit)
    lines = [table(header, rows), "", f"{summary(planned)}, in {planned.precision} on {planned.device}"]
    lines.append(f"{fits} in {limit}")
    if planned.memory <= planned.limit < planned.memory + planned.pages:
        lines.append("the mapped weights do not fit beside it: they are read from disk again and again")
    return "\n".join(lines)


def _described(planned: Plan) -> dict[str, Any]:
    return {
        "device": planned.device,
        "precision": planned.precision,
        "seconds": round(planned.seconds, 3),
        "memory": planned.memory,
        "pages": planned.pages,
        "device_memory": planned.device_memory,
        "limit": planned.limit,
        "fits": planned.fits,
        "resident": planned.resident,
        "phases": [
            {
                "name": phase.name,
                "seconds": round(phase.seconds, 3),
                "memory": phase.memory,
                "pages": phase.pages,
                "device_memory": phase.device_memory,
            }
            for phase in planned.phases
        ],
    }
