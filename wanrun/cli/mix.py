"""The command that finds the best types for a size."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from wanrun import settings
from wanrun.cli.calibrate import check_free, of_role, seed_of
from wanrun.cli.options import MemoryType, parameters


@click.command()
@click.argument("model")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    metavar="FILE",
    help="the recipe (YAML); of two experts FILE-high_noise and FILE-low_noise",
)
@click.option("--like", metavar="TYPE", help="files as large as this type's, such as Q4_K_M")
@click.option("--file-size", type=MemoryType(), metavar="SIZE", help="files as large as this")
@click.option(
    "--imatrix",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="the -o of 'wanrun calibrate', which the files will be quantised with",
)
@click.option("--prompts", metavar="SET", help="video, toy, or a file of prompts")
@click.option(
    "--limit", type=click.IntRange(1), default=4, show_default=True, metavar="N", help="so many prompts"
)
@click.option(
    "--table",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="where measured errors are kept for other sizes; by default the output's name with .measured",
)
@click.option("--force", is_flag=True, help="replace files that are there")
@parameters(
    "size", "frames", "steps", "guidance", "guidance_high", "guidance_low", "shift", "boundary", "seed"
)
@click.option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:N, mps or xpu")
def mix(
    model: str,
    output: Path,
    like: str | None,
    file_size: int | None,
    imatrix: Path | None,
    prompts: str | None,
    limit: int,
    table: Path | None,
    force: bool,
    device: str | None,
    **asked: Any,
) -> None:
    """Measure what each matrix of MODEL costs its videos in each type, and solve for the best types.

    The recipes are for 'wanrun quantize --recipe'. An interrupted measurement goes on when the same command
    is given again, and another size with the same --table is solved at once.
    """
    if (like is None) == (file_size is None):
        raise click.UsageError("give the files' size, by --like a type or by --file-size")
    os.environ.setdefault("OMP_NUM_THREADS", str(settings.threads()))  # torch reads it once
    from wanrun import load
    from wanrun.cli.progress import shown
    from wanrun.convert import prompts as sets
    from wanrun.convert.mix import other_bytes, solve, standard_bytes
    from wanrun.convert.sensitivity import measure
    from wanrun.gguf.header import read_header
    from wanrun.gguf.imatrix import read_imatrix
    from wanrun.request import resolve
    from wanrun.wan.mixes import find_mix
    from wanrun.wan.recipe import write_recipe

    bundle = load(model)
    base = "Q4_K_M" if like is None else like.upper()
    find_mix(base)
    paths = {role: of_role(output, role, len(bundle.experts)) for role in bundle.experts}
    check_free(list(paths.values()), force)
    imatrices = {}
    if imatrix is not None:
        imatrices = {
            role: read_imatrix(of_role(imatrix, role, len(bundle.experts))) for role in bundle.experts
        }
    source = prompts or sets.default(bundle)
    chosen = sets.spread(sets.read(source), limit)
    common = {**asked, "precision": "fp32"}
    requests = [
        resolve(bundle, prompt, {**common, "seed": seed_of(asked, index)})
        for index, prompt in enumerate(chosen)
    ]
    kept = table or output.with_name(f"{output.name}.measured")
    with shown() as progress:
        errors = measure(bundle, requests, imatrices, kept, progress, device or settings.get("device"))
    about = {
        "prompts": source,
        "videos": len(chosen),
        "steps": requests[0].steps,
        "calibrated": bool(imatrices),
    }
    for role, path in paths.items():
        header = read_header(bundle.experts[role].path)
        budget = standard_bytes(header, base) if file_size is None else file_size - other_bytes(header)
        recipe = solve(header, errors[role], budget, base, about)
        write_recipe(path, recipe)
        click.echo(
            f"{path}  ({recipe.about['bytes']:,} of {budget:,} bytes, error {recipe.about['error']:.3g})"
        )
