"""The commands that look after the store: verify, prune."""

from __future__ import annotations

import click

from wanrun.cli.tables import human_bytes, printable
from wanrun.store.names import parse_name
from wanrun.store.store import open_store


@click.command()
@click.argument("names", nargs=-1)
def verify(names: tuple[str, ...]) -> None:
    """Read the files of the models NAMES again, of all models without names, and say which are damaged."""
    from wanrun.cli.progress import shown
    from wanrun.store import manifests
    from wanrun.store.verify import verify as examine

    store = open_store()
    chosen = [parse_name(name) for name in names] or manifests.names(store.manifests)
    with shown() as progress:
        report = examine(store, chosen, progress)
    for finding in report.findings:
        click.echo(printable(f"{finding.name}: {finding.what}: {finding.reason}"))
        click.echo(f"  to repair it: {finding.repair}")
    done = f"{_count(report.bundles, 'model')}, {_count(report.files, 'file')}, {human_bytes(report.size)}"
    if report.findings:
        raise click.ClickException(f"{_count(len(report.findings), 'damaged file')} among {done}")
    click.echo(f"{done}: all sound")


@click.command()
@click.option("--all", "everything", is_flag=True, help="Also what unfinished downloads have brought so far.")
def prune(everything: bool) -> None:
    """Delete files that no model needs; unfinished downloads are kept for a week."""
    from wanrun.store.garbage import collect

    click.echo(f"freed {human_bytes(collect(open_store().home, everything))}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
