"""The command that makes many videos from a file of shots."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wanrun import settings
from wanrun.cli.options import MemoryType
from wanrun.cli.tables import printable, table

if TYPE_CHECKING:
    from wanrun.batch.works import Work

_FORMATS = ("mp4", "webm", "gif")


@click.command()
@click.argument("shots", type=click.Path(path_type=Path))
@click.option("-o", "--output", metavar="FOLDER", help="where the videos go; by default named as SHOTS")
@click.option("--model", metavar="NAME", help="of the shots that name none")
@click.option(
    "--format", "file_format", type=click.Choice(_FORMATS), default=_FORMATS[0], help="mp4 by default"
)
@click.option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:N, mps or xpu")
@click.option(
    "--memory",
    type=MemoryType(),
    metavar="SIZE",
    help="what a video may take, such as 8GB; else what is free",
)
@click.option("--json", "as_json", is_flag=True, help="print each video as a JSON object on one line")
@click.option("--plan", "only_plan", is_flag=True, help="say what there is to make, and stop")
def batch(
    shots: Path,
    output: str | None,
    model: str | None,
    file_format: str,
    device: str | None,
    memory: int | None,
    as_json: bool,
    only_plan: bool,
) -> None:
    """Make the videos that the YAML file SHOTS asks for, and a page that shows them.

    Videos that are in FOLDER already are not made again, and an interrupted one continues: run the same
    command once more. A shot that fails does not stop the others; the command then exits with 1.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(settings.threads()))  # torch reads it once
    from wanrun import load
    from wanrun.batch.document import read_file
    from wanrun.batch.shots import read_shots
    from wanrun.batch.works import works
    from wanrun.cli.batching import Batch

    folder = Path(output or shots.with_suffix("").name)
    found = works(read_shots(read_file(shots), model), load, folder, file_format)
    if only_plan:
        click.echo(_listed(found))
        return
    if Batch(found, folder, shots.stem, device, memory, as_json).run():
        raise click.exceptions.Exit(1)


def _listed(works: list[Work]) -> str:
    rows = [
        (
            str(number),
            "made" if work.made else "to do",
            printable(work.request.prompt)[:60],
            ", ".join(f"{key} {value}" for key, value in work.shot.varied.items() if key != "prompt"),
            work.path.name,
        )
        for number, work in enumerate(works, start=1)
    ]
    left = sum(not work.made for work in works)
    return (
        f"{table(('', 'STATE', 'PROMPT', 'SETTINGS', 'FILE'), rows)}\n\n{left} of {len(works)} videos to make"
    )
