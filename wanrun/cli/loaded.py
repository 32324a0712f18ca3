"""The commands about models that a server has loaded: ps, stop."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from wanrun.cli.client import connected
from wanrun.cli.tables import human_bytes, human_until, table
from wanrun.errors import InvalidRequest
from wanrun.store.names import parse_name


@click.command()
@click.argument("prefix", default="")
def ps(prefix: str) -> None:
    """List the models that the server has loaded, only those that start with PREFIX if one is given."""
    with connected() as client:
        models = client.get("/api/ps")["models"]
    rows = [_row(model) for model in models if model["name"].startswith(prefix.lower())]
    click.echo(table(("NAME", "ID", "SIZE", "PROCESSOR", "UNTIL"), rows))


@click.command()
@click.argument("model")
def stop(model: str) -> None:
    """Unload MODEL, once it is done with what it does."""
    name = str(parse_name(model))
    with connected() as client:
        if name not in [each["name"] for each in client.get("/api/ps")["models"]]:
            raise InvalidRequest(f'couldn\'t find model "{model}" to stop')
        client.post("/api/generate", {"model": name, "keep_alive": 0})


def _row(model: dict[str, Any]) -> tuple[str, ...]:
    left = datetime.fromisoformat(model["expires_at"]) - datetime.now().astimezone()
    return (
        model["name"],
        model["digest"][:12],
        human_bytes(model["size"]),
        "100% GPU" if model["size_vram"] else "100% CPU",
        human_until(left.total_seconds()),
    )
