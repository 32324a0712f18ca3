"""The command that measures what a model makes."""

from __future__ import annotations

import json
import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wanrun import settings
from wanrun.cli.options import parameters
from wanrun.cli.tables import table

if TYPE_CHECKING:
    from wanrun.evaluate.suite import Suite

#: The module of each suite, whose ``measure`` is a ``wanrun.evaluate.suite.Suite``.
SUITES = {"toy": "wanrun.evaluate.toy", "temporal": "wanrun.evaluate.temporal"}


@click.command()
@click.argument("model")
@click.option(
    "--suite", type=click.Choice(list(SUITES)), default="toy", show_default=True, help="what is measured"
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="only N of the suite's prompts, evenly")
@click.option("-o", "--output", metavar="FOLDER", help="where the report goes; by default MODEL-SUITE")
@parameters(
    "steps",
    "guidance",
    "guidance_high",
    "guidance_low",
    "guidance_start",
    "guidance_end",
    "guidance_rescale",
    "sampler",
    "schedule",
    "cache",
    "noise",
    "cross_frame",
    "shift",
    "boundary",
    "precision",
    "decoder",
    "flicker",
    "expand",
)
@click.option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:N, mps or xpu")
def evaluate(
    model: str, suite: str, limit: int | None, output: str | None, device: str | None, **asked: Any
) -> None:
    """Make the videos of a suite with MODEL and score them.

    Prints a table and writes report.json and sheet.png into FOLDER.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(settings.threads()))  # torch reads it once
    from wanrun import load
    from wanrun.cli.progress import shown
    from wanrun.evaluate.sheet import sheet

    bundle = load(model)
    measure: Suite = import_module(SUITES[suite]).measure
    chosen = {name: value for name, value in asked.items() if value is not None}
    with shown() as progress:
        report = measure(bundle, chosen, limit, progress, device or settings.get("device"))
    folder = Path(output or f"{model.replace('/', '-').replace(':', '-')}-{suite}")
    folder.mkdir(parents=True, exist_ok=True)
    result = {"model": bundle.name, "settings": chosen, **report.values}
    (folder / "report.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    written = [folder / "report.json"]
    if report.strips:
        written.append(folder / "sheet.png")
        sheet(report.strips).save(written[-1], optimize=True)
    click.echo(table(report.header, report.rows))
    if report.note:
        click.echo(f"\n{report.note}")
    click.echo(", ".join(map(str, written)))
