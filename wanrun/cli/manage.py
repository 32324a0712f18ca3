"""The commands that change or list the store: create, list, attach, cp, rm."""

from __future__ import annotations

import time
from pathlib import Path

import click

from wanrun.cli.tables import human_bytes, human_time, printable, table
from wanrun.errors import InvalidRequest, ModelfileError
from wanrun.modelfile import grammar
from wanrun.modelfile.document import Modelfile
from wanrun.store.names import parse_name
from wanrun.store.store import open_store


@click.command()
@click.argument("name")
@click.option("-f", "--file", "path", default="Modelfile", show_default=True, help="The Modelfile.")
def create(name: str, path: str) -> None:
    """Make the model NAME from a Modelfile.

    Paths in the Modelfile are relative to it, and what lies on other machines is downloaded. Its files are
    checked against each other, then copied into the store, sharing disk blocks where the file system can.
    """
    # here, because the other commands read no headers and show no progress
    from wanrun.cli.progress import shown
    from wanrun.modelfile.adapters import adapter_notes
    from wanrun.store.creation import create as create_bundle

    target, file, store = parse_name(name), Path(path), open_store()
    modelfile = _read(file)
    with shown() as progress:
        bundle = create_bundle(store, target, modelfile, file.parent, progress)
    for note in adapter_notes(bundle):
        click.echo(f"Note: {printable(note)}", err=True)
    click.echo(f"created '{target}' ({store.manifest(target).digest.short})")


@click.command("list")
@click.argument("prefix", default="")
def list_models(prefix: str) -> None:
    """List the models of the store, only those that start with PREFIX if one is given."""
    store, now = open_store(), time.time()
    rows = [
        (str(entry.name), entry.digest.short, human_bytes(entry.size), human_time(now - entry.modified))
        for entry in store.list()
        if str(entry.name).startswith(prefix.lower())
    ]
    click.echo(table(("NAME", "ID", "SIZE", "MODIFIED"), rows))
    for problem in store.damaged():
        click.echo(f"Warning: {problem}", err=True)


@click.command()
@click.argument("name")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
def attach(name: str, files: tuple[Path, ...]) -> None:
    """Add reports of 'wanrun evaluate' and recipes of 'wanrun mix' to the model NAME.

    They travel with it, and 'wanrun show' says what they say. One of the same file name is replaced.
    """
    from wanrun.store import attachments

    for file in files:
        layer = attachments.attach(open_store(), name, file)
        click.echo(f"attached '{layer.title}' to '{parse_name(name)}'")


@click.command("cp")
@click.argument("source")
@click.argument("target")
def copy(source: str, target: str) -> None:
    """Give the model SOURCE the second name TARGET."""
    open_store().copy(source, target)
    click.echo(f"copied '{source}' to '{target}'")


@click.command("rm")
@click.argument("names", nargs=-1, required=True)
def remove(names: tuple[str, ...]) -> None:
    """Remove models; files that no other model needs are deleted."""
    store = open_store()
    for name in names:
        store.remove(name)
        click.echo(f"deleted '{name}'")


def _read(file: Path) -> Modelfile:
    try:
        return grammar.read(file)
    except ModelfileError as error:
        count = len(error.problems)
        raise InvalidRequest(f"{file} has {count} mistake{'s' * (count > 1)}:\n{error}") from error
