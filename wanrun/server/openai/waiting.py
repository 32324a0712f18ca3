"""Waits for videos on behalf of a client that stays on the line; when it hangs up, they are cancelled."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import aclosing

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from wanrun.errors import WanrunError
from wanrun.server.following import NotMade
from wanrun.server.job import Job, Order
from wanrun.server.service import Service


def submit_all(service: Service, orders: Iterable[Order]) -> list[Job]:
    """A job for each order, or none: raises as ``Jobs.create``."""
    jobs: list[Job] = []
    try:
        for order in orders:
            jobs.append(service.submit(order))
    except WanrunError:
        _cancel(service, jobs)
        raise
    return jobs


async def completed(service: Service, request: Request, jobs: Sequence[Job]) -> list[Job]:
    """The jobs once all are completed; raises NotMade when one is not, and cancels the others."""
    try:
        return [await _completed(service, request, job) for job in jobs]
    except NotMade:
        await run_in_threadpool(_cancel, service, jobs)
        raise


async def _completed(service: Service, request: Request, job: Job) -> Job:
    async with aclosing(service.follow(job.id)) as events:
        async for event in events:
            job = event.job
            if await request.is_disconnected():
                raise NotMade(f"{job.id} is cancelled: its client has left")
    if not job.over:
        raise WanrunError(f"the server ends; {job.id} goes on when it is started again")
    if job.status != "completed":
        raise NotMade(f"{job.id} is {job.status}" + (f": {job.error}" if job.error else ""))
    return job


def _cancel(service: Service, jobs: Iterable[Job]) -> None:
    for job in jobs:
        service.scheduler.cancel(job.id)
