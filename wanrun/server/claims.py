"""Who works on which job: a scheduler claims jobs, and those of a scheduler that died go back to the queue.

A claim is not a matter of time: each scheduler holds a lock on a file of its own, which the system drops when
its process ends, however it ends. So a job is never taken from a process that is slow or stopped.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from wanrun.errors import StoreError
from wanrun.server.job import Job, Status
from wanrun.server.jobs import Jobs
from wanrun.server.rows import read_job
from wanrun.store.durable import make_folder, store_errors


@dataclass(frozen=True, slots=True)
class Advance:
    """How far a job has come; see ``Job`` for the units."""

    phase: str
    step: int
    total: int
    rate: float | None = None
    left_s: float | None = None


class Claims:
    """One scheduler's hold on the jobs that it works on, until it is closed or its process ends."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._folder = jobs.home / "schedulers"
        self.owner = secrets.token_hex(8)
        with store_errors("cannot claim jobs"):
            make_folder(self._folder)
            self._held = os.open(self._folder / self.owner, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(self._held, fcntl.LOCK_EX)

    def recover(self) -> list[Job]:
        """Give back the jobs of schedulers that are no more; those that were."""
        jobs = self._jobs
        with jobs.database.transaction() as connection:
            owners = connection.execute("SELECT DISTINCT owner FROM job WHERE status = 'running'")
            dead = [owner for (owner,) in owners.fetchall() if not self._alive(owner)]
            found = []
            for owner in dead:
                ids = connection.execute("SELECT id FROM job WHERE owner = ?", (owner,)).fetchall()
                connection.execute(_GIVE_BACK + "owner = ?", (time.time(), owner))
                found += [str(job_id) for (job_id,) in ids]
        self._forget_dead()
        given = [jobs.get(job_id) for job_id in found]
        for job in given:
            if job.status == "cancelled":
                jobs.forget_run(job)
        return given

    def next(self, busy: Collection[str] = ()) -> Job | None:
        """Claim the first job by priority, then age, whose model is not ``busy``; None if none waits."""
        marks = ", ".join("?" * len(busy))
        with self._jobs.database.transaction() as connection:
            row = connection.execute(
                f"SELECT id FROM job WHERE status = 'queued' AND model NOT IN ({marks})"
                " ORDER BY priority DESC, number LIMIT 1",
                tuple(busy),
            ).fetchone()
            if row is None:
                return None
            connection.execute(
                "UPDATE job SET status = 'running', owner = ?, started = coalesce(started, ?),"
                " attempts = attempts + 1 WHERE id = ?",
                (self.owner, time.time(), row["id"]),
            )
            claimed = connection.execute("SELECT * FROM job WHERE id = ?", (row["id"],)).fetchone()
            return read_job(claimed)

    def begin(self, job: Job, run_id: str) -> None:
        """Write down the run that keeps the job's checkpoint, before anything is computed for it."""
        self._change(job, "run_id = ?", run_id)

    def advance(self, job: Job, advance: Advance) -> None:
        """Write down how far the job is."""
        self._change(
            job,
            "phase = ?, step = ?, total = ?, rate = ?, left_s = ?",
            *(advance.phase, advance.step, advance.total, advance.rate, advance.left_s),
        )

    def complete(self, job: Job, output: str) -> Job:
        """The video ``output`` is in its place: it is the job's, for good."""
        size = self._jobs.outputs.seal(output)
        self._change(
            job,
            "status = 'completed', owner = NULL, finished = ?, output = ?, size = ?,"
            " step = total, left_s = 0",
            *(time.time(), output, size),
        )
        self._jobs.forget_run(job)
        return self._jobs.get(job.id)

    def stop(self, job: Job, status: Status, reason: str | None = None) -> Job:
        """The job failed, for ``reason``, or was cancelled. A failed one keeps its checkpoint."""
        self._change(
            job,
            "status = ?, owner = NULL, finished = ?, error = ?, left_s = NULL",
            *(status, time.time(), reason),
        )
        if status == "cancelled":
            self._jobs.forget_run(job)
        return self._jobs.get(job.id)

    def give_back(self, job: Job) -> Job:
        """The job waits again, and will continue from its checkpoint."""
        with self._jobs.database.transaction() as connection:
            connection.execute(_GIVE_BACK + "id = ? AND owner = ?", (time.time(), job.id, self.owner))
        return self._jobs.get(job.id)

    def close(self) -> None:
        """Let go of every job that is still claimed."""
        with suppress(StoreError), self._jobs.database.transaction() as connection:
            connection.execute(_GIVE_BACK + "owner = ?", (time.time(), self.owner))
        with suppress(OSError):
            (self._folder / self.owner).unlink()
        os.close(self._held)

    def _change(self, job: Job, assignments: str, *values: object) -> None:
        """Only its owner changes a running job, so nobody completes it twice."""
        with self._jobs.database.transaction() as connection:
            changed = connection.execute(
                f"UPDATE job SET {assignments} WHERE id = ? AND owner = ? AND status = 'running'",
                (*values, job.id, self.owner),
            ).rowcount
        if changed != 1:
            raise StoreError(f"{job.id} is no longer this scheduler's")

    def _alive(self, owner: str) -> bool:
        return owner == self.owner or not _dropped(self._folder / owner)

    def _forget_dead(self) -> None:
        for path in self._folder.iterdir():
            # one that was made this moment may not be locked yet
            with suppress(OSError):
                if path.stat().st_mtime < time.time() - 60 and not self._alive(path.name):
                    path.unlink()


_GIVE_BACK = (
    "UPDATE job SET owner = NULL, rate = NULL, left_s = NULL,"
    " status = CASE cancelling WHEN 1 THEN 'cancelled' ELSE 'queued' END,"
    " finished = CASE cancelling WHEN 1 THEN ? END WHERE status = 'running' AND "
)


def _dropped(path: Path) -> bool:
    """Whether no process holds the file's lock."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
