"""Videos' states as they are answered: each is written once, however many clients ask for it."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi.concurrency import run_in_threadpool

from wanrun.server.job import Job
from wanrun.server.openai.polling import Polling
from wanrun.server.openai.present import poll_after_ms, video
from wanrun.server.service import Service

#: States that are kept; each is as long as its prompts.
_KEPT = 256


@dataclass(frozen=True, slots=True)
class State:
    """A job, and its video object as JSON."""

    job: Job
    body: bytes


class States:
    """What status calls are answered, for the event loop alone; ``polling`` counts them."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._version = -1
        self._kept: dict[str, State] = {}
        self.polling = Polling()

    async def get(self, video_id: str) -> State:
        """The video's state, as new as the database; raises JobNotFound."""
        version = self._service.jobs.database.version()
        if version != self._version or len(self._kept) >= _KEPT:
            self._version = version
            self._kept.clear()
        state = self._kept.get(video_id)
        if state is None:
            state = await run_in_threadpool(self._read, video_id)
            # or it may lack what was written meanwhile, of which somebody else has heard already
            if version == self._version:
                self._kept[video_id] = state
        return state

    def poll_after_ms(self, job: Job) -> int:
        """When who asked for the job should ask again."""
        return self.polling.after_ms(poll_after_ms(job))

    def _read(self, video_id: str) -> State:
        job = self._service.jobs.get(video_id)
        shown = video(job, self._service.jobs, self._service.scheduler.options.expire_s)
        return State(job, shown.model_dump_json().encode())
