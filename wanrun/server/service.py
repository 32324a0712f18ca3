"""What every route works with: the store, the jobs and the scheduler of one home."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from wanrun import settings
from wanrun.errors import InvalidRequest
from wanrun.request import resolve as resolve_request
from wanrun.runtime.advised import advise
from wanrun.server.events import Event
from wanrun.server.following import follow
from wanrun.server.job import Job, Order
from wanrun.server.jobs import Jobs
from wanrun.server.scheduler import Options, Scheduler
from wanrun.store import loras
from wanrun.store.creation import resolve
from wanrun.store.store import Store
from wanrun.types import Bundle, GenerationRequest


class Service:
    """The home's models and jobs; jobs are worked on from ``start`` until ``close``."""

    def __init__(self, home: Path, options: Options | None = None, queue: int = 64) -> None:
        self.home, self.store = home, Store(home)
        self.jobs = Jobs(home, queue)
        self.scheduler = Scheduler(self.jobs, options)

    def start(self) -> None:
        """Begin with the jobs that wait."""
        self.scheduler.start()

    def close(self) -> None:
        """Stop; jobs that run wait for the next server, with every step they have made."""
        self.scheduler.close()
        self.jobs.close()

    def bundle(self, name: str) -> Bundle:
        """The model ``name``; one of the shipped library that needs no download is made first.

        Raises InvalidRequest for what is no name, ModelNotFound.
        """
        return resolve(self.store, name)

    def request(self, name: str, prompt: str, asked: Mapping[str, Any]) -> GenerationRequest:
        """What ``prompt`` and the parameters ``asked`` mean to the model ``name``.

        ``asked`` is as in ``wanrun.request.resolve``, but for ``lora``, which is still to be found, and for
        ``target`` and ``quality``, which settings are chosen for. Raises InvalidRequest with every mistake,
        ModelNotFound.
        """
        bundle = self.bundle(name)
        given = {**asked, "lora": loras.allow(self.store, asked.get("lora") or ())}
        settled, choice = advise(bundle, prompt, given, self.scheduler.options.device, trial=False)
        request = resolve_request(bundle, prompt, settled)
        if choice is not None:
            request = replace(request, notes=(*request.notes, choice.text))
        self.check_size(request)
        return request

    def check_size(self, request: GenerationRequest) -> None:
        """Raises InvalidRequest for a video that is larger than this server makes."""
        pixels, most = request.width * request.height * request.frames, settings.number("max_pixels")
        if pixels > most:
            raise InvalidRequest(
                f"{request.width}x{request.height} with {request.frames} frames is {pixels} pixels, and this "
                f"server makes at most {most} (WANRUN_MAX_PIXELS): ask for a smaller size or fewer frames"
            )

    def submit(self, order: Order, keep_alive_s: float | None = None) -> Job:
        """As ``Scheduler.submit``."""
        return self.scheduler.submit(order, keep_alive_s)

    def follow(self, job_id: str, pause_s: float = 0.0) -> AsyncGenerator[Event]:
        """As ``wanrun.server.following.follow``."""
        return follow(self.scheduler, job_id, pause_s)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_service() -> Service:
    """The service that the settings describe. Raises InvalidRequest for a setting that is none."""
    options = Options(
        device=settings.get("device"),
        loaded=settings.number("max_loaded"),
        keep_alive_s=settings.duration("keep_alive"),
        expire_s=settings.duration("expire"),
        outputs_bytes=settings.size("outputs"),
    )
    return Service(settings.home(), options, settings.number("max_queue"))
