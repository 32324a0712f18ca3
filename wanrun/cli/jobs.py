"""The commands about a server's jobs: list, show, fetch, cancel, rm."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from wanrun.cli.client import Client, connected
from wanrun.cli.saving import free_name
from wanrun.cli.tables import human_time, printable, table
from wanrun.video.destination import destination

_PAGE = 100
_PROMPT_CHARACTERS = 40


@click.group(invoke_without_command=True)
@click.pass_context
def jobs(context: click.Context) -> None:
    """List, show, fetch, cancel and delete the server's videos."""
    if context.invoked_subcommand is None:
        context.invoke(list_jobs)


@jobs.command("list")
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
def list_jobs(limit: int) -> None:
    """List jobs, the newest first."""
    with connected() as client:
        rows = [_row(video) for video in _newest(client, limit)]
    click.echo(table(("ID", "STATUS", "MODEL", "PROMPT", "CREATED"), rows))


@jobs.command()
@click.argument("job_id", metavar="ID")
def show(job_id: str) -> None:
    """Show all that there is to know about a job, as JSON."""
    with connected() as client:
        click.echo(json.dumps(client.get(_path(job_id)), indent=2))


@jobs.command()
@click.argument("job_id", metavar="ID")
@click.option("-o", "--output", metavar="FILE", help="where to; by default a new file named after the prompt")
def fetch(job_id: str, output: str | None) -> None:
    """Save a finished job's video, as 'wanrun run' would have."""
    with connected() as client:
        video = client.get(_path(job_id))
        made = video["wanrun"]
        path = output or free_name(video["prompt"], made["seed"], made["format"])
        wanted = destination(path, made["format"])
        client.save(f"{_path(job_id)}/content", wanted.path)
    click.echo(f"{wanted.path}  ({video['size']}, {made['frames']} frames, seed {made['seed']})")


@jobs.command()
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
def cancel(job_ids: tuple[str, ...]) -> None:
    """Cancel jobs that wait or run."""
    with connected() as client:
        for job_id in job_ids:
            client.post(f"{_path(job_id)}/cancel")
            click.echo(f"cancelled '{printable(job_id)}'")


@jobs.command()
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
def rm(job_ids: tuple[str, ...]) -> None:
    """Delete jobs with their videos."""
    with connected() as client:
        for job_id in job_ids:
            client.delete(_path(job_id))
            click.echo(f"deleted '{printable(job_id)}'")


def _newest(client: Client, limit: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    query: dict[str, str | int] = {}
    while len(found) < limit:
        page = client.get("/v1/videos", limit=min(_PAGE, limit - len(found)), **query)
        found += page["data"]
        if not page["has_more"]:
            break
        query = {"after": page["last_id"]}
    return found


def _row(video: dict[str, Any]) -> tuple[str, ...]:
    status = video["status"] + (f" {video['progress']}%" if video["status"] == "in_progress" else "")
    prompt = video["prompt"] or ""
    short = prompt if len(prompt) <= _PROMPT_CHARACTERS else f"{prompt[: _PROMPT_CHARACTERS - 1]}…"
    return video["id"], status, video["model"], short, human_time(time.time() - video["created_at"])


def _path(job_id: str) -> str:
    """Where the job is; an id with anything but letters, digits and ``_`` in it is none and finds nothing."""
    plain = "".join(letter for letter in job_id if letter.isascii() and (letter.isalnum() or letter == "_"))
    return f"/v1/videos/{plain if plain == job_id else '-'}"
