"""The command that says what a model file is, from its header alone."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from wanrun.cli.tables import human_bytes, human_count, section
from wanrun.gguf.header import Header, read_header
from wanrun.gguf.sums import TypeSum, parameter_count, sums_by_type
from wanrun.wan.detect import Identity, identify

_DIMENSIONS = {
    "latent_channels": "latent channels",
    "in_channels": "input channels",
    "text_width": "text width",
    "width": "width",
    "layers": "layers",
    "heads": "heads",
    "ffn": "feed-forward width",
}


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--tensors", is_flag=True, help="List every tensor with its type and shape.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect(file: Path, tensors: bool, as_json: bool) -> None:
    """Say what the GGUF or safetensors FILE is: kind, variant, role, dimensions, tensor types and sizes."""
    header = read_header(file)
    identity = identify(header)
    if as_json:
        click.echo(json.dumps(_record(header, identity, tensors), ensure_ascii=False, indent=2))
        return
    click.echo(section("File", _file_rows(header, identity)))
    click.echo(section("Types", [_type_row(sum_) for sum_ in sums_by_type(header)]))
    if tensors:
        rows = [(info.name, info.type, str(list(info.shape))) for info in header.tensors.values()]
        click.echo(section("Tensors", rows))
    if identity.problem is not None:
        click.echo(f"Warning: this file cannot be used: {identity.problem}", err=True)


def _file_rows(header: Header, identity: Identity) -> list[tuple[str, str]]:
    rows = [
        ("format", header.format),
        ("kind", identity.kind.replace("_", " ")),
        ("variant", identity.variant),
    ]
    architecture = header.metadata.get("general.architecture")
    rows += [("architecture", str(architecture))] if isinstance(architecture, str) else []
    rows += [("role (by its name)", identity.expert)] if identity.expert else []
    rows += [("names", identity.dialect)] if identity.dialect else []
    for key, label in _DIMENSIONS.items():
        value = getattr(identity, key)
        rows += [(label, str(value))] if value is not None else []
    rows.append(("tensors", str(len(header.tensors))))
    rows.append(("parameters", human_count(parameter_count(header))))
    rows.append(("size", human_bytes(header.path.stat().st_size)))
    return rows


def _type_row(sum_: TypeSum) -> tuple[str, str, str, str]:
    tensors = f"{sum_.tensors} tensor{'s' * (sum_.tensors != 1)}"
    return sum_.type, tensors, human_count(sum_.elements), human_bytes(sum_.nbytes)


def _record(header: Header, identity: Identity, tensors: bool) -> dict[str, Any]:
    architecture = header.metadata.get("general.architecture")
    record: dict[str, Any] = {
        "path": str(header.path),
        "format": header.format,
        "architecture": architecture if isinstance(architecture, str) else None,
        **asdict(identity),
        "parameters": parameter_count(header),
        "size": header.path.stat().st_size,
        "types": [asdict(sum_) for sum_ in sums_by_type(header)],
    }
    if tensors:
        record["tensors"] = [asdict(info) for info in header.tensors.values()]
    return record
