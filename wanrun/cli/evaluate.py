"""The command that measures what a model makes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from wanrun import settings
from wanrun.cli.options import parameters
from wanrun.cli.tables import table


@click.command()
@click.argument("model")
@click.option(
    "--suite", type=click.Choice(("toy",)), default="toy", show_default=True, help="what is measured"
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="only N of the suite's prompts, evenly")
@click.option("-o", "--output", metavar="FOLDER", help="where the report goes; by default MODEL-SUITE")
@parameters(
    "steps",
    "guidance",
    "guidance_high",
    "guidance_low",
    "sampler",
    "schedule",
    "shift",
    "boundary",
    "precision",
    "decoder",
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
    from wanrun.evaluate import toy
    from wanrun.evaluate.sheet import sheet

    bundle = load(model)
    prompts = toy.spread(toy.suite(), limit)
    chosen = {name: value for name, value in asked.items() if value is not None}
    strips, verdicts = [], []
    with shown() as progress:
        clips = toy.videos(bundle, prompts, chosen, progress, device or settings.get("device"))
        for item, frames in zip(prompts, clips, strict=True):
            verdict = toy.judge(item, frames)
            verdicts.append(verdict)
            strips.append((item.prompt, [name for name, good in verdict.right.items() if not good], frames))
    folder = Path(output or f"{model.replace('/', '-').replace(':', '-')}-{suite}")
    folder.mkdir(parents=True, exist_ok=True)
    result = {"model": bundle.name, "settings": chosen, **toy.report(verdicts)}
    (folder / "report.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    sheet(strips).save(folder / "sheet.png", optimize=True)
    click.echo(_table(toy.rates(verdicts)))
    click.echo()
    click.echo(
        "flicker {flicker:.2f} of 255, identity {identity:.0%} of frames".format(**toy.steadiness(verdicts))
    )
    click.echo(f"{folder / 'report.json'}, {folder / 'sheet.png'}")


def _table(rates: dict[str, dict[str, tuple[int, int]]]) -> str:
    criteria = list(dict.fromkeys(name for group in rates.values() for name in group))
    rows = [
        (group, *(_rate(*found[name]) if name in found else "" for name in criteria))
        for group, found in rates.items()
    ]
    return table(("", *(name.upper() for name in criteria)), rows)


def _rate(right: int, total: int) -> str:
    return f"{right / total:.0%} ({right}/{total})"
