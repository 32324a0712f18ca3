"""The commands that move models between machines: pull, push, export, import."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from wanrun.cli.tables import human_bytes, printable, table
from wanrun.errors import InvalidRequest
from wanrun.store.names import DEFAULT_HOST, Name, parse_name
from wanrun.store.store import open_store

if TYPE_CHECKING:
    from wanrun.store.planning import Plan


@click.command()
@click.argument("name")
@click.option("--plan", "only_plan", is_flag=True, help="Say what would be downloaded, and stop.")
def pull(name: str, only_plan: bool) -> None:
    """Download the model NAME, or go on with a download that was interrupted.

    NAME is a model of the library (wan2.2-t2v-a14b:q5_k_m), a repository of GGUF files on the Hub
    (hf.co/user/repo:QUANT), or a model in a registry (ghcr.io/user/model:tag).
    """
    from wanrun.cli.progress import shown
    from wanrun.modelfile.adapters import adapter_notes
    from wanrun.store import planning, pulling

    store = open_store()
    if only_plan:
        click.echo(_described(planning.plan(store, name)))
        return
    try:
        with shown() as progress:
            pulled = pulling.pull(store, name, progress)
    except KeyboardInterrupt:
        click.echo(f"Interrupted: 'wanrun pull {printable(name)}' goes on where it stopped.", err=True)
        raise SystemExit(130) from None
    for note in adapter_notes(store.get(pulled)):
        click.echo(f"Note: {printable(note)}", err=True)
    click.echo(f"pulled '{pulled}' ({store.manifest(pulled).digest.short})")


@click.command()
@click.argument("name")
def push(name: str) -> None:
    """Upload the model NAME to the registry that its name begins with."""
    from wanrun.cli.progress import shown
    from wanrun.sources import oci

    store, parsed = open_store(), parse_name(name)
    if parsed.host == DEFAULT_HOST:
        raise InvalidRequest(
            f"'{parsed}' names no registry: 'wanrun cp {parsed} ghcr.io/YOU/{parsed.model}:{parsed.tag}', "
            "then push that"
        )
    with shown() as progress:
        oci.push(store, parsed, progress)
    click.echo(f"pushed '{parsed}' ({store.manifest(parsed).digest.short})")


@click.command("export")
@click.argument("name")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def export_model(name: str, file: Path) -> None:
    """Write the model NAME into FILE, a tar that 'wanrun import' and every OCI tool read."""
    from wanrun.cli.progress import shown
    from wanrun.store.archive import export_archive

    parsed = parse_name(name)
    with shown() as progress:
        export_archive(open_store(), parsed, file, progress)
    click.echo(f"exported '{parsed}' to {printable(str(file))}")


@click.command("import")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("name", required=False)
def import_model(file: Path, name: str | None) -> None:
    """Bring the models in FILE, which 'wanrun export' wrote, into the store; NAME if there is one only."""
    from wanrun.cli.progress import shown
    from wanrun.store.archive import import_archive

    with shown() as progress:
        names: list[Name] = import_archive(open_store(), file, parse_name(name) if name else None, progress)
    for each in names:
        click.echo(f"imported '{each}'")


def _described(plan: Plan) -> str:
    rows = [
        (item.role.replace("_", " ") or "-", item.title, _size(item.size), _state(item.size, item.here))
        for item in plan.items
    ]
    fits = "fits" if plan.largest <= plan.memory else "does not fit: take a smaller quant"
    lines = [
        table(("ROLE", "FILE", "SIZE", "HERE"), rows),
        "",
        f"to download    {human_bytes(plan.missing)} of {human_bytes(plan.total)}",
        f"free disk      {human_bytes(plan.free)}" + ("" if plan.missing <= plan.free else ": too little"),
        f"memory         {human_bytes(plan.memory)}; the largest file, {human_bytes(plan.largest)}, {fits}",
        *(f"note           {printable(note)}" for note in plan.notes),
    ]
    return "\n".join(lines)


def _size(size: int | None) -> str:
    return "unknown" if size is None else human_bytes(size)


def _state(size: int | None, here: int) -> str:
    if size is not None and here >= size:
        return "yes"
    return human_bytes(here) if here else "no"
