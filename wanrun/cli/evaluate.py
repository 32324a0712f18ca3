"""The command that measures what a model makes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wanrun import settings
from wanrun.cli.options import parameters
from wanrun.cli.tables import table
from wanrun.errors import InvalidRequest

if TYPE_CHECKING:
    from wanrun.evaluate.suite import Report, Suite
    from wanrun.types import Bundle

#: The module of each suite, whose ``measure`` is a ``wanrun.evaluate.suite.Suite``.
SUITES = {"toy": "wanrun.evaluate.toy", "temporal": "wanrun.evaluate.temporal"}
#: Those that compare models with the first one: ``against`` gives the Suite.
COMPARISONS = {"fidelity": "wanrun.evaluate.fidelity"}


@click.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option(
    "--suite",
    type=click.Choice([*SUITES, *COMPARISONS]),
    default="toy",
    show_default=True,
    help="what is measured; fidelity: how like the first MODEL's the others' videos are",
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
    "compose",
    "shift",
    "boundary",
    "precision",
    "decoder",
    "flicker",
    "expand",
)
@click.option("--keep", is_flag=True, help="add it to what --target and --quality choose from")
@click.option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:N, mps or xpu")
def evaluate(
    models: tuple[str, ...],
    suite: str,
    limit: int | None,
    output: str | None,
    keep: bool,
    device: str | None,
    **asked: Any,
) -> None:
    """Make the videos of a suite with MODEL and score them.

    Prints a table and writes report.json and sheet.png into FOLDER, below it a folder each for many models.
    """
    if (len(models) > 1) != (suite in COMPARISONS):
        wanted = "a reference and models to compare with it" if suite in COMPARISONS else "one MODEL"
        raise click.UsageError(f"the suite {suite} wants {wanted}")
    os.environ.setdefault("OMP_NUM_THREADS", str(settings.threads()))  # torch reads it once
    from wanrun import load
    from wanrun.cli.progress import shown

    chosen = {name: value for name, value in asked.items() if value is not None}
    bundles = [load(model) for model in models]
    measured = bundles[1:] or bundles
    with _suite(suite, bundles[0]) as measure, shown() as progress:
        reports = {
            bundle.name: measure(bundle, chosen, limit, progress, device or settings.get("device"))
            for bundle in measured
        }
    first = next(iter(reports.values()))
    # the reference's row is in every report
    click.echo(
        table(first.header, dict.fromkeys(tuple(row) for each in reports.values() for row in each.rows))
    )
    for model, bundle in zip(models[1:] or models, measured, strict=True):
        report = reports[bundle.name]
        own = f"{model.replace('/', '-').replace(':', '-')}-{suite}"
        folder = Path(output or own) if len(reports) == 1 else Path(output or ".") / own
        written = _write(folder, {"model": bundle.name, "settings": chosen, **report.values}, report)
        if keep:
            written.append(_keep(bundle, suite, chosen, report.values))
        click.echo(f"\n{report.note}" if report.note else "")
        click.echo(", ".join(map(str, written)))


def _keep(bundle: Bundle, suite: str, chosen: Mapping[str, Any], values: Mapping[str, Any]) -> Path:
    """The bundle's quality table with what was found; InvalidRequest for a suite that gives no score."""
    from wanrun.request import resolve
    from wanrun.runtime import quality

    if "score" not in values:
        raise InvalidRequest(f"the suite {suite} does not say how good videos are: nothing can be kept")
    request = resolve(bundle, "", chosen)
    ways = request.sampler, request.schedule, request.cache
    row = quality.Row(*ways, request.steps, round(values["score"], 4), round(values["computed"], 4))
    return quality.keep(bundle, suite, row)


@contextmanager
def _suite(name: str, first: Bundle) -> Iterator[Suite]:
    if name in SUITES:
        yield import_module(SUITES[name]).measure
    else:
        with import_module(COMPARISONS[name]).against(first) as measure:
            yield measure


def _write(folder: Path, values: Mapping[str, Any], report: Report) -> list[Path]:
    from wanrun.evaluate.sheet import sheet

    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "report.json"]
    written[0].write_text(json.dumps(values, indent=1) + "\n", "utf-8")
    if report.strips:
        written.append(folder / "sheet.png")
        sheet(report.strips).save(written[-1], optimize=True)
    return written
