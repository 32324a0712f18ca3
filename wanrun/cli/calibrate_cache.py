"""The command that measures what step caches must know of a model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from wanrun import settings
from wanrun.cli.options import parameters

_PROMPTS = 4


@click.command("calibrate-cache")
@click.argument("model")
@click.argument("name", required=False)
@click.option("--prompt", "prompts", multiple=True, metavar="TEXT", help="measure on this; may be repeated")
@parameters("size", "frames", "steps", "sampler", "schedule", "shift", "boundary", "precision")
@click.option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:N, mps or xpu")
def calibrate_cache(
    model: str, name: str | None, prompts: tuple[str, ...], device: str | None, **asked: Any
) -> None:
    """Measure how MODEL's work changes from step to step, and keep it as the model NAME, by default itself.

    Makes a video of each of some prompts, all steps computed. What is found are the parameters magcache and
    teacache, with which the caches of these names work: --cache magcache.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(settings.threads()))  # torch reads it once
    from wanrun import load
    from wanrun.cli.progress import shown
    from wanrun.evaluate import toy
    from wanrun.evaluate.steps import calibrate
    from wanrun.modelfile.document import Modelfile
    from wanrun.store.creation import create
    from wanrun.store.store import open_store

    bundle = load(model)
    chosen = {key: value for key, value in asked.items() if value is not None}
    texts = prompts or tuple(item.prompt for item in toy.spread(toy.suite(), _PROMPTS))
    with shown() as progress:
        found = calibrate(bundle, texts, chosen, progress, device or settings.get("device"))
    made = create(
        open_store(), name or model, Modelfile(from_=model, parameters=found.parameters()), Path.cwd()
    )
    for key, text in found.parameters().items():
        click.echo(f"PARAMETER {key} {text}")
    click.echo(f"kept as {made.name}")
