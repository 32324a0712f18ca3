"""The command that makes GGUF files of published checkpoints."""

from __future__ import annotations

import os
from pathlib import Path

import click

from wanrun import settings
from wanrun.cli.tables import human_bytes
from wanrun.errors import InvalidRequest

_ROLES = ("high_noise", "low_noise", "diffusion", "vae", "tiny", "text_encoder")


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--type", "kind", metavar="TYPE", help="F32, F16 or BF16; for a text encoder Q8_0 too.")
@click.option("--role", type=click.Choice(_ROLES), help="Which network of a folder, and which expert it is.")
@click.option("--tokenizer", type=click.Path(path_type=Path), help="The text encoder's spiece.model.")
@click.option("--license", metavar="SPDX", help="The licence, where no model card says it.")
@click.option("--force", is_flag=True, help="Replace TARGET if it is there.")
def convert(
    source: Path,
    target: Path,
    kind: str | None,
    role: str | None,
    tokenizer: Path | None,
    license: str | None,
    force: bool,
) -> None:
    """Write the transformer, VAE or UMT5 encoder SOURCE to TARGET, a GGUF file.

    SOURCE is a safetensors or GGUF file, an index of shards, or a folder, of Wan-AI, ComfyUI or diffusers.
    Names become the original ones. A VAE may become a .safetensors file. What is interrupted goes on when
    the same command is repeated.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(settings.threads()))  # torch reads it once
    from wanrun.cli.progress import goes_on, shown
    from wanrun.convert.network import Wanted
    from wanrun.convert.network import convert as write

    if target.exists() and not force:
        raise InvalidRequest(f"{target} is there already; --force replaces it")
    with shown() as progress, goes_on():
        write(source, target, progress, Wanted(kind and kind.upper(), role, tokenizer, license))
    click.echo(f"{target}  ({human_bytes(target.stat().st_size)})")
