"""The commands that list what takes a video from noise to frames: samplers, schedules."""

from __future__ import annotations

import click

from wanrun import plugins
from wanrun.cli.tables import table
from wanrun.signatures import Signature


@click.command()
def samplers() -> None:
    """List the samplers, their options, and what each is good for.

    Options stand behind the name: --sampler ddim:eta=0.5. FORWARDS are those of the model for each step.
    """
    rows = [
        (name, str(found.forwards) if found else "", _options(found), _advice(found))
        for name, found in _found("samplers")
    ]
    click.echo(table(("NAME", "FORWARDS", "OPTIONS", "GOOD FOR"), rows))


@click.command()
def schedules() -> None:
    """List the noise schedules, their options, and what each is good for.

    Options stand behind the name: --schedule karras:rho=5. Sigmas may be written out: custom:1,0.9,0.5,0.
    """
    rows = [(name, _options(found), _advice(found)) for name, found in _found("schedules")]
    click.echo(table(("NAME", "OPTIONS", "GOOD FOR"), rows))


def _found(group: str) -> list[tuple[str, Signature | None]]:
    return [(name, plugins.signature(group, name)) for name in plugins.names(group)]


def _options(found: Signature | None) -> str:
    options = found.options.values() if found else ()
    return ", ".join("A,B,…" if option.several else f"{option.name}={option.default}" for option in options)


def _advice(found: Signature | None) -> str:
    """What the docstring's "Good for …" says."""
    _, marked, advice = " ".join(found.about.split() if found else ()).rpartition("Good for ")
    return advice.rstrip(".") if marked else ""
