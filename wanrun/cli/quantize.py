"""The command that makes smaller files."""

from __future__ import annotations

import os
from pathlib import Path

import click

from wanrun import settings
from wanrun.cli.options import MemoryType
from wanrun.cli.tables import human_bytes
from wanrun.errors import InvalidRequest


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("kind", metavar="[TYPE]", required=False)
@click.option(
    "--imatrix", type=click.Path(path_type=Path), help="What 'wanrun calibrate' or llama.cpp measured."
)
@click.option("--recipe", type=click.Path(path_type=Path), help="Types of single matrices, a YAML file.")
@click.option(
    "--tensor",
    "tensors",
    metavar="PATTERN=TYPE",
    multiple=True,
    help="Type of some matrices; again for more.",
)
@click.option(
    "--size",
    type=MemoryType(),
    metavar="SIZE",
    help="The best types of which TARGET takes at most this: 8GB.",
)
@click.option("--force", is_flag=True, help="Replace TARGET if it is there.")
def quantize(
    source: Path,
    target: Path,
    kind: str | None,
    imatrix: Path | None,
    recipe: Path | None,
    tensors: tuple[str, ...],
    size: int | None,
    force: bool,
) -> None:
    """Write the transformer SOURCE to the GGUF file TARGET as TYPE, such as Q4_K_M.

    SOURCE is a GGUF or safetensors file, or a folder or index of safetensors shards. Only the blocks'
    matrices are quantised; embeddings, norms, modulation and head keep their precision. What is interrupted
    goes on when the same command is repeated.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(settings.threads()))  # torch reads it once
    from wanrun.cli.progress import goes_on, shown
    from wanrun.convert.rounding import sized
    from wanrun.gguf.imatrix import read_imatrix
    from wanrun.wan.recipe import Recipe, read_recipe, rule
    from wanrun.wan.requantize import Importance, quantize_transformer

    if kind and size:
        raise click.UsageError("give a TYPE or a --size, not both")
    given = read_recipe(recipe) if recipe else Recipe()
    kind = kind or given.base or ("Q4_K_M" if size else "")
    if not kind:
        raise click.UsageError("a TYPE is missing, such as Q4_K_M")
    if target.exists() and not force:
        raise InvalidRequest(f"{target} is there already; --force replaces it")
    rules = (*given.rules, *map(rule, tensors))
    importance = Importance(read_imatrix(imatrix), imatrix.name) if imatrix else None
    with shown() as progress, goes_on():
        if size:
            known = importance.matrix if importance else None
            rules = (*sized(source, size, kind, known, rules, progress).rules, *rules)
        quantize_transformer(source, target, kind, progress, importance, rules)
    click.echo(f"{target}  ({human_bytes(target.stat().st_size)})")
