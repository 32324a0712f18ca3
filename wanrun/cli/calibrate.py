"""The command that makes importance matrices."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wanrun import settings
from wanrun.cli.options import parameters
from wanrun.errors import InvalidRequest

if TYPE_CHECKING:
    pass


class PartType(click.ParamType[tuple[int, int]]):
    """A share of the work, such as ``2/5``."""

    name = "K/N"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        which, mark, parts = str(value).partition("/")
        if not mark or not which.isdecimal() or not parts.isdecimal():
            self.fail(f"{value!r} is not K/N, such as 2/5", param, ctx)
        return int(which), int(parts)


@click.command()
@click.argument("model", required=False)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    metavar="FILE",
    help="the importance matrix; of two experts FILE-high_noise and FILE-low_noise",
)
@click.option("--prompts", default=None, metavar="SET", help="video, toy, or a file of prompts")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="only N of the prompts, evenly")
@click.option("--part", type=PartType(), metavar="K/N", help="only the K-th of N shares, for N machines")
@click.option(
    "--merge",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="without MODEL: add up the importance matrices of several runs; may repeat",
)
@click.option(
    "--pairs/--no-pairs",
    default=True,
    help="also how channels go together, for a larger file and a better rounding of the K types",
)
@click.option("--force", is_flag=True, help="replace files that are there")
@parameters(
    "size",
    "frames",
    "steps",
    "guidance",
    "guidance_high",
    "guidance_low",
    "shift",
    "boundary",
    "sampler",
    "schedule",
    "seed",
    "precision",
)
@click.option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:N, mps or xpu")
def calibrate(
    model: str | None,
    output: Path,
    prompts: str | None,
    limit: int | None,
    part: tuple[int, int] | None,
    merge: tuple[Path, ...],
    pairs: bool,
    force: bool,
    device: str | None,
    **asked: Any,
) -> None:
    """Measure what goes into the matrices of MODEL while it makes videos, for 'wanrun quantize --imatrix'.

    Every prompt is a video, at all noise levels, with the model's own settings or those given. An interrupted
    calibration goes on where it stopped when the same command is given again.
    """  # fmt: skip
    if (model is None) == (not merge):
        raise click.UsageError("give a MODEL to calibrate, or files to --merge")
    os.environ.setdefault("OMP_NUM_THREADS", str(settings.threads()))  # torch reads it once
    if model is None:
        _merge(merge, output, force)
        return
    from wanrun import load
    from wanrun.cli.progress import shown
    from wanrun.convert import calibrate as gathering
    from wanrun.convert import prompts as sets
    from wanrun.gguf.imatrix import write_imatrix
    from wanrun.request import resolve

    bundle = load(model)
    paths = {role: of_role(output, role, len(bundle.experts)) for role in bundle.experts}
    check_free(list(paths.values()), force)
    source = prompts or sets.default(bundle)
    chosen = sets.spread(sets.read(source), limit)
    if part is not None:
        chosen = sets.slice_of(chosen, part)
    requests = [
        resolve(bundle, prompt, {**asked, "seed": seed_of(asked, i)}) for i, prompt in enumerate(chosen)
    ]
    unfinished = output.with_name(f"{output.name}.unfinished")
    with shown() as progress:
        made = gathering.calibrate(
            bundle, requests, source, unfinished, progress, device or settings.get("device"), pairs
        )
    for role, imatrix in made.items():
        write_imatrix(paths[role], imatrix)
        click.echo(f"{paths[role]}  ({len(imatrix.moments)} matrices, {imatrix.chunks} videos)")
    unfinished.unlink()


def _merge(files: tuple[Path, ...], output: Path, force: bool) -> None:
    from wanrun.gguf.imatrix import merge, read_imatrix, write_imatrix

    check_free([output], force)
    whole = merge([read_imatrix(path) for path in files])
    write_imatrix(output, whole)
    click.echo(f"{output}  ({len(whole.moments)} matrices, {whole.chunks} videos)")


def seed_of(asked: dict[str, Any], index: int) -> int:
    """Every video has its own noise."""
    return (int(asked["seed"] or 0) + index) % 2**32


def of_role(output: Path, role: str, experts: int) -> Path:
    return output if experts == 1 else output.with_name(f"{output.stem}-{role}{output.suffix}")


def check_free(paths: list[Path], force: bool) -> None:
    taken = [str(path) for path in paths if path.exists()]
    if taken and not force:
        raise InvalidRequest(f"{', '.join(taken)} is there already; --force replaces it")
