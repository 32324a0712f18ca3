"""Has the server make a video, and shows and saves it as if it were made in this process."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from wanrun import __version__, settings
from wanrun.cli.plan import in_one_line
from wanrun.cli.progress import shown
from wanrun.cli.saving import Video, tell
from wanrun.errors import InvalidRequest, OutOfMemoryBudget, WanrunError
from wanrun.modelfile.parameters import format_parameter
from wanrun.store.names import parse_name
from wanrun.store.store import open_store
from wanrun.types import Bundle, GenerationRequest, Lora, Progress
from wanrun.video.destination import destination

if TYPE_CHECKING:
    from wanrun.cli.client import Client

#: A server of this machine takes a connection at once, and answers what costs nothing almost so.
_CONNECT_S, _ANSWER_S = 0.5, 2.0
#: The longest text that the server takes.
_TEXT = 32_000
#: What /v1/videos calls our parameters, where it calls them something else. Guidance is sent as it resolved.
_WORDS = {
    "frames": "num_frames",
    "negative": "negative_prompt",
    "steps": "num_inference_steps",
    "shift": "flow_shift",
    "boundary": "boundary_ratio",
}
_GUIDANCE = ("guidance", "guidance_high", "guidance_low")


def serves(bundle: Bundle, loras: Sequence[Lora] = ()) -> bool:
    """Whether a server of this version answers at WANRUN_HOST that has the same files, byte for byte."""
    if not _listens():
        return False
    import httpx

    from wanrun.cli.client import connected

    try:
        with connected(httpx.Timeout(_ANSWER_S)) as client:
            version, tags = client.get("/api/version"), client.get("/api/tags")
            brought = all(client.has(f"/api/blobs/{lora.digest}") for lora in loras)
    except WanrunError:
        return False
    models = tags.get("models") if isinstance(tags, dict) else None
    if version != {"version": __version__} or not isinstance(models, list) or not brought:
        return False
    name = parse_name(bundle.name)
    own = (str(name), open_store().manifest(name).digest.hex)
    return any(isinstance(each, dict) and (each.get("name"), each.get("digest")) == own for each in models)


def can_make(video: Video, prompt: str) -> bool:
    """Whether a server takes such an order at all: it makes no PNGs, and no videos of endless prompts.

    Raises InvalidRequest for a file that cannot be written.
    """
    chosen = destination(video.path, video.file_format).format
    return chosen != "png" and max(len(prompt), len(video.request.negative)) <= _TEXT


def make(prompt: str, asked: Mapping[str, Any], video: Video, as_json: bool, started: float) -> None:
    """Have ``video``, which is what ``prompt`` and ``asked`` resolve to, made and write it.

    Raises WanrunError for what the server refuses, or when it ends before the video does.
    """
    from wanrun.cli.client import connected

    wanted = destination(video.path, video.file_format)
    chosen = {name: _plain(value) for name, value in asked.items() if value is not None and name != "lora"}
    chosen["seed"] = video.request.seed
    chosen["lora"] = [
        {"name": lora.digest, "role": lora.role, "scale": lora.scale, "title": lora.origin}
        for lora in video.request.lora
    ]
    with connected() as client:
        _plan(client, {"model": video.bundle.name, "prompt": prompt, "options": chosen}, as_json)
        order = _order(chosen, video.request) | {"model": video.bundle.name, "prompt": prompt}
        job = client.post("/v1/videos", order | {"format": wanted.format})
        with _cancelled_on_interrupt(client, job["id"]):
            before = job["wanrun"]["queue_position"]
            if before and not as_json:
                click.echo(f"Note: videos that wait before this one: {before}", err=True)
            with shown(quiet=as_json) as progress:
                _follow(client, job["id"], video.request, progress)
            client.save(f"/v1/videos/{job['id']}/content", wanted.path)
        described = client.get(f"/v1/videos/{job['id']}/provenance")
        video.tally.recall(described.get("cache"))
    tell(wanted.path, video.request, video.tally.share, described if as_json else None, started)


def _listens() -> bool:
    """Whether anything does; found out before a library is imported to talk to it."""
    host, port = settings.address()
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    try:
        socket.create_connection((host, port), _CONNECT_S).close()
    except (OSError, UnicodeError):
        return False
    return True


def _plain(value: Any) -> Any:
    return format_parameter(value) if isinstance(value, tuple) else value


def _order(chosen: Mapping[str, Any], request: GenerationRequest) -> dict[str, Any]:
    order = {_WORDS.get(name, name): value for name, value in chosen.items() if name not in _GUIDANCE}
    return order | {"guidance_scale": request.guidance_high, "guidance_scale_2": request.guidance_low}


def _plan(client: Client, asked: dict[str, Any], quiet: bool) -> None:
    """Print what the video takes; OutOfMemoryBudget when the server has not so much."""
    try:
        for planned in client.lines("/api/plan", asked | {"stream": True}):
            if planned.get("status") and not quiet:
                click.echo(
                    f"The server is {planned['status']}; it happens once and takes some seconds.", err=True
                )
    except InvalidRequest:
        raise
    except WanrunError as error:
        click.echo(f"Note: this run is not planned: {error}", err=True)
        return
    if not planned["fits"]:
        raise OutOfMemoryBudget(planned["reason"])
    if not quiet:
        line = in_one_line(
            planned["peak_ram_bytes"],
            planned["mapped_bytes"],
            planned["device"],
            planned["peak_vram_bytes"],
            planned["seconds"],
        )
        click.echo(f"Plan: {line}", err=True)


@contextmanager
def _cancelled_on_interrupt(client: Client, job_id: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        client.post(f"/v1/videos/{job_id}/cancel")
        click.echo(f"Stopped. {job_id} is cancelled on the server.", err=True)
        raise


def _follow(client: Client, job_id: str, request: GenerationRequest, progress: Progress) -> None:
    """Report the job's progress until it is completed; WanrunError when it will not be."""
    phases = _Phases(request, progress)
    for name, data in client.events(f"/v1/videos/{job_id}/events"):
        if name == "progress":
            phases.reach(data["phase"], data["step"], data["steps"])
        elif data["status"] == "completed":
            phases.finish()
            return
        else:
            error = data["error"] or {"message": f"{job_id} was {data['status']}"}
            raise WanrunError(error["message"])
    raise WanrunError(
        f"the server has ended: {job_id} goes on when it is started again ('wanrun serve'), and "
        f"'wanrun jobs show {job_id}' says how far it is"
    )


class _Phases:
    """Tells of every phase's end: the server leaves out what happens within a moment."""

    def __init__(self, request: GenerationRequest, progress: Progress) -> None:
        guided = (request.guidance_high, request.guidance_low if request.boundary is not None else 1.0)
        self._open = {"text": 1 if guided == (1.0, 1.0) else 2}
        self._open |= {"denoise": request.steps, "decode": request.frames}
        self._progress = progress

    def reach(self, phase: str, step: int, steps: int) -> None:
        """The job is at ``step`` of ``steps`` in ``phase``; other phases than those of a run are not told."""
        if phase not in self._open:
            return
        while (first := next(iter(self._open))) != phase:
            self._end(first)
        self._open[phase] = steps or self._open[phase]
        self._progress(phase, step, steps)
        if steps and step >= steps:
            del self._open[phase]

    def finish(self) -> None:
        """The job is over."""
        for phase in list(self._open):
            self._end(phase)

    def _end(self, phase: str) -> None:
        total = self._open.pop(phase)
        self._progress(phase, total, total)
