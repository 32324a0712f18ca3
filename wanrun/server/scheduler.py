"""Has workers do the jobs, the most urgent first, and tells who listens how far they are."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from logging import getLogger

from wanrun.errors import ModelNotFound, StoreError, WanrunError
from wanrun.runtime import runs
from wanrun.runtime.free import oom_kills
from wanrun.runtime.messages import Task
from wanrun.runtime.process import Outcome, Report, without_paths
from wanrun.runtime.runs import Run
from wanrun.runtime.workers import Workers
from wanrun.server.claims import Claims
from wanrun.server.events import Events, Subscription
from wanrun.server.job import Job, Order, Status
from wanrun.server.jobs import Jobs
from wanrun.server.pace import Pace
from wanrun.store.creation import resolve
from wanrun.store.store import Store

_log = getLogger(__name__)
#: How often the queue is looked at for what other processes put there.
_POLL_S = 0.5
#: How often progress is written down, and cancelling looked for; listeners hear of every step.
_NOTE_S = 0.2
_KEEP_HOUSE_S = 5.0
#: Ends of a worker that its video need not be the reason of.
_FROM_OUTSIDE = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")


@dataclass(frozen=True, slots=True)
class Options:
    """How a scheduler works."""

    device: str = "auto"
    #: Jobs at the same time, of different models, and workers that stay.
    parallel: int = 1
    loaded: int = 1
    #: Seconds that an idle worker stays; negative for ever.
    keep_alive_s: float = 300.0
    #: Finished jobs go after so many seconds, or when all videos take more than so many bytes.
    expire_s: float = 30 * 86_400.0
    outputs_bytes: int = 20_000_000_000
    #: Times that a job's worker may be killed without having made a step, before the job fails.
    kills: int = 3


class Scheduler:
    """Does the jobs below ``jobs.home`` from ``start`` until ``close``; others may do the same beside it."""

    def __init__(self, jobs: Jobs, options: Options | None = None) -> None:
        self.jobs, self.options = jobs, options or Options()
        self.events = Events()
        self.workers = Workers(max(self.options.loaded, self.options.parallel))
        self._claims = Claims(jobs)
        self._lock = threading.Lock()
        self._busy: set[str] = set()
        self._kills: dict[str, int] = {}
        self._keep_alive: dict[str, float] = {}
        self._woken = threading.Condition()
        self._closing = False
        self._threads = [threading.Thread(target=self._work) for _ in range(self.options.parallel)]
        self._threads.append(threading.Thread(target=self._keep_house))

    def start(self) -> None:
        """Take back what a scheduler that died left behind, and begin."""
        self.jobs.outputs.prepare()
        self._recover()
        for thread in self._threads:
            thread.start()

    def submit(self, order: Order, keep_alive_s: float | None = None) -> Job:
        """The order's job, as ``Jobs.create``; its worker stays ``keep_alive_s`` afterwards."""
        job = self.jobs.create(order)
        if keep_alive_s is not None:
            self._keep_alive[job.id] = keep_alive_s
        if job.status == "queued":
            self.events.publish(job)
            self._wake()
        return job

    def load(self, model: str, keep_alive_s: float | None = None) -> None:
        """Have a worker ready for ``model`` before there is a job; it stays ``keep_alive_s``."""
        self.workers.load(model, self.options.keep_alive_s if keep_alive_s is None else keep_alive_s)

    def cancel(self, job_id: str) -> Job:
        """As ``Jobs.cancel``; a running job stops within one block of its transformer."""
        job = self.jobs.cancel(job_id)
        if job.status == "cancelled":
            self.events.publish(job)
        return job

    def subscribe(self, job_id: str | None = None, wake: Callable[[], object] = bool) -> Subscription:
        """The job as it is, then what becomes of it; or what happens to all jobs. Raises JobNotFound.

        ``wake`` is called when there is an event to take.
        """
        subscription = self.events.subscribe(job_id, wake)
        if job_id is not None:
            try:
                # after subscribing, so that its end is not missed in between
                self.events.tell(subscription, self.jobs.get(job_id))
            except BaseException:
                subscription.close()
                raise
        return subscription

    def wait(self, job_id: str, timeout_s: float = 600.0) -> Job:
        """The job once it is over, or as it is after ``timeout_s``."""
        until = time.monotonic() + timeout_s
        while not (job := self.jobs.get(job_id)).over and time.monotonic() < until:
            with self.subscribe(job_id) as events:
                # another process may be at it, whose events do not come here
                waits_until = min(until, time.monotonic() + _POLL_S)
                while not events.over and time.monotonic() < waits_until:
                    events.next(_POLL_S)
        return job

    def close(self) -> None:
        """Stop; jobs that run wait again, and continue from their checkpoints later."""
        self._closing = True
        self._wake()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        self.workers.close()
        self._claims.close()
        self.events.close()

    def _work(self) -> None:
        while not self._closing:
            with suppress(StoreError):  # a full disk may have room again
                job = self._next()
                if job is not None:
                    try:
                        self._do(job)
                    finally:
                        self._busy.discard(job.model)
                    continue
            with self._woken:
                if not self._closing:
                    self._woken.wait(_POLL_S)

    def _next(self) -> Job | None:
        with self._lock:
            job = self._claims.next(self._busy)
            if job is not None:
                self._busy.add(job.model)
            return job

    def _do(self, job: Job) -> None:
        self.events.publish(job)
        try:
            run = self._run(job)
            if job.run_id != run.id:
                self._claims.begin(job, run.id)
            job = replace(job, run_id=run.id)
            self._settle(job, run, self._outcome(job, run))
        except WanrunError as error:
            self._stop(job, "failed", str(error))
        except Exception as error:  # an edge: one job must not end them all
            _log.exception("%s failed in a way that nobody foresaw", job.id)
            self._stop(job, "failed", f"{type(error).__name__}: {error}")

    def _run(self, job: Job) -> Run:
        """The job's run, begun now unless it was before."""
        if job.run_id is not None:
            with suppress(ModelNotFound):
                return runs.find(self.jobs.home, job.run_id)
        return runs.begin(self.jobs.home, resolve(Store(self.jobs.home), job.model), job.request)

    def _outcome(self, job: Job, run: Run) -> Outcome:
        output = self.jobs.outputs.path(_output(job))
        task = Task(run.id, str(output), job.format, self.options.device)
        before, kills = _steps(run), oom_kills()
        worker = self.workers.take(job.model)
        try:
            outcome = worker.run(task, self._teller(job), self._stopper(job))
        finally:
            keep_s = self._keep_alive.pop(job.id, self.options.keep_alive_s)
            self.workers.give(job.model, keep_s)
        if outcome.kind == "died" and outcome.signal in _FROM_OUTSIDE and oom_kills() == kills:
            return self._killed(job, outcome, _steps(run) > before)
        return outcome

    def _killed(self, job: Job, outcome: Outcome, advanced: bool) -> Outcome:
        """Not its fault, unless it happens again and again before it has made a step."""
        self._kills[job.id] = 0 if advanced else self._kills.get(job.id, 0) + 1
        return outcome if self._kills[job.id] >= self.options.kills else replace(outcome, kind="cancelled")

    def _teller(self, job: Job) -> Callable[[Report], None]:
        pace, noted, phase = Pace(), 0.0, ""

        def tell(report: Report) -> None:
            nonlocal job, noted, phase
            if report.preview is not None:
                self.events.publish(job, report.preview)
                return
            now = time.monotonic()
            advance = pace.advance(report.phase, report.done, report.total, now)
            job = replace(
                job,
                status="running",
                phase=advance.phase,
                step=advance.step,
                total=advance.total,
                rate=advance.rate,
                left_s=advance.left_s,
            )
            if now - noted >= _NOTE_S or phase != advance.phase:
                noted, phase = now, advance.phase
                self._claims.advance(job, advance)
            self.events.publish(job)

        return tell

    def _stopper(self, job: Job) -> Callable[[], bool]:
        asked, last = False, 0.0

        def stop() -> bool:
            nonlocal asked, last
            if not asked and time.monotonic() - last >= _NOTE_S:
                last = time.monotonic()
                asked = self.jobs.get(job.id).cancelling
            return asked or self._closing

        return stop

    def _settle(self, job: Job, run: Run, outcome: Outcome) -> None:
        if outcome.kind == "done":
            self.events.publish(self._claims.complete(job, _output(job)))
            self._kills.pop(job.id, None)
        elif outcome.kind == "cancelled":
            # by its client, or it waits again: the scheduler closes, or somebody killed the worker
            given = self._claims.give_back(job)
            if given.status == "cancelled":
                self.jobs.forget_run(given)
            self.events.publish(given)
        else:
            self._stop(job, "failed", outcome.reason)

    def _stop(self, job: Job, status: Status, reason: str) -> None:
        """Write down how it ended, once the disk takes it."""
        while True:
            try:
                self.events.publish(self._claims.stop(job, status, without_paths(reason)))
                return
            except StoreError:
                if self._closing or self.jobs.get(job.id).status != "running":
                    return
                time.sleep(_POLL_S)

    def _keep_house(self) -> None:
        while not self._closing:
            with suppress(StoreError):
                self._recover()
                self.workers.expire()
                self.jobs.expire(self.options.expire_s, self.options.outputs_bytes)
                self.jobs.sweep()
            with self._woken:
                if not self._closing:
                    self._woken.wait(_KEEP_HOUSE_S)

    def _recover(self) -> None:
        for job in self._claims.recover():
            self.events.publish(job)

    def _wake(self) -> None:
        with self._woken:
            self._woken.notify_all()


def _output(job: Job) -> str:
    return f"{job.id}.{job.format}"


def _steps(run: Run) -> int:
    """How much of the run is on disk."""
    return len(list(run.folder.glob("velocity-*"))) + run.latents.exists()
