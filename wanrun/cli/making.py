"""Makes a video for a command: by the server that has the model, or in this process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import click

from wanrun import settings
from wanrun.cli.plan import checked, summary
from wanrun.cli.resolving import resolved
from wanrun.cli.saving import Video, save
from wanrun.cli.tables import printable
from wanrun.runtime import runs
from wanrun.runtime.runs import Run
from wanrun.types import Bundle, GenerationRequest


@dataclass(frozen=True, slots=True)
class Way:
    """How a command's videos are made and told of; ``memory`` is in bytes."""

    device: str | None
    memory: int | None
    output: str | None
    file_format: str | None
    as_json: bool


def make(bundle: Bundle, prompt: str, asked: Mapping[str, Any], way: Way, started: float) -> None:
    """The video of ``prompt``, its file and what is told of it being the same wherever it is made.

    A server has a device and memory of its own: who names one has the video made here. ``started`` is the
    monotonic time at which the command began.
    """
    from wanrun import pipeline
    from wanrun.cli import remote
    from wanrun.request import chosen_words

    request, asked = resolved(bundle, prompt, asked, way.device, way.memory)
    request = pipeline.expand(bundle, request)
    tell_notes(request)
    video = Video(bundle, request, way.output, way.file_format)
    here = way.device is not None or way.memory is not None
    if not here and remote.can_make(video, prompt) and remote.serves(bundle, request.lora):
        # the words are in this home's lists; a server expands by itself, to the same text
        remote.make(chosen_words(prompt, request.seed), asked, video, way.as_json, started)
    else:
        make_here(bundle, request, way, started)


def make_here(
    bundle: Bundle, request: GenerationRequest, way: Way, started: float, kept: Run | None = None
) -> None:
    """The video in this process; what was ``kept`` of it before is not computed again."""
    device = way.device or settings.get("device")
    planned = checked(bundle, request, device, way.memory, quiet=way.as_json)
    if planned is not None and not way.as_json and kept is None:
        click.echo(f"Plan: {summary(planned)}", err=True)
    from wanrun.runtime.generate import frames

    kept = kept or runs.begin(settings.home(), bundle, request)
    with _resumable(kept):
        resident = None if planned is None else planned.resident
        video = Video(bundle, request, way.output, way.file_format)
        made = partial(
            frames, kept, bundle, request, device=device, resident_bytes=resident, tally=video.tally
        )
        save(made, video, way.as_json, started)


def tell_notes(request: GenerationRequest) -> None:
    """Say what was changed to fit the model, and the prompt where it is not the one that was typed."""
    for note in request.notes:
        click.echo(f"Note: {printable(note)}", err=True)
    if request.written or request.expanded:
        click.echo(f"Prompt: {printable(request.text)}", err=True)


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
