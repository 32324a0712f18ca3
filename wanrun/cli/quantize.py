"""The command that makes smaller files."""

from __future__ import annotations

import os
from pathlib import Path

import click

from wanrun import settings
from wanrun.cli.tables import human_bytes
from wanrun.errors import InvalidRequest


@click.command()
@click.argument("source", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("kind", metavar="TYPE")
@click.option("--force", is_flag=True, help="replace TARGET if it is there")
def quantize(source: Path, target: Path, kind: str, force: bool) -> None:
    """Write the transformer SOURCE (GGUF or safetensors) to the GGUF file TARGET as TYPE, such as Q4_K_M.

    Only the blocks' matrices are quantised; embeddings, norms and modulation keep their precision.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(settings.threads()))  # torch reads it once
    from wanrun.cli.progress import shown
    from wanrun.wan.requantize import quantize_transformer

    if target.exists() and not force:
        raise InvalidRequest(f"{target} is there already; --force replaces it")
    with shown() as progress:
        quantize_transformer(source, target, kind, progress)
    click.echo(f"{target}  ({human_bytes(target.stat().st_size)}, from {human_bytes(source.stat().st_size)})")
