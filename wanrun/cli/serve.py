"""The command that serves."""

from __future__ import annotations

import logging
import os

import click

from wanrun import settings


@click.command()
def serve() -> None:
    """Serve models and videos over HTTP, at WANRUN_HOST.

    Jobs are kept on disk: what is unfinished when the server ends goes on when it starts again.
    """
    # before torch is imported, which reads it once
    os.environ.setdefault("OMP_NUM_THREADS", str(settings.threads()))
    if settings.get("private").lower() == "auto":
        os.environ["WANRUN_PRIVATE"] = "off"  # anybody may tell a server where to go
    from wanrun.server.serve import open_policy
    from wanrun.server.serve import serve as run_server
    from wanrun.server.service import open_service

    policy, service = open_policy(), open_service()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    run_server(service, policy, settings.address(), lambda url: click.echo(f"Listening on {url}"))
