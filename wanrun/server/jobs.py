"""What clients may do with jobs: create, get, list, cancel, delete. They are on disk when a call returns."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from sqlite3 import Connection, Row
from typing import Literal

from wanrun.errors import InvalidRequest, JobNotFound, JobNotReady, KeyReused, ModelNotFound, QueueFull
from wanrun.runtime import runs
from wanrun.server.database import Database
from wanrun.server.job import STATUSES, Job, Order, Status, encode
from wanrun.server.outputs import Outputs
from wanrun.server.rows import read_job

_ID = re.compile(r"video_[0-9a-f]{24}")
_PAGE = range(1, 101)
#: Finished jobs whose duration says how long the next one may take, and the guess without any.
_RECENT = 20
_GUESS_S = 30.0
_LONGEST_RETRY_S = 3600


@dataclass(frozen=True, slots=True)
class Page:
    """Some jobs of the list; ``more`` says whether there are others behind the last."""

    jobs: tuple[Job, ...]
    more: bool


class Jobs:
    """The jobs below ``home``, for any number of threads and processes; at most ``queue`` of them wait."""

    def __init__(self, home: Path, queue: int = 64) -> None:
        self.home, self.queue = home, queue
        self.database = Database(home)
        self.outputs = Outputs(home / "videos")

    def create(self, order: Order) -> Job:
        """A new job, or the one that was made of the same order with the same key before.

        Raises KeyReused for another order with that key, QueueFull when too many wait.
        """
        request, fingerprint = encode(asdict(order.request)), order.fingerprint
        with self.database.transaction() as connection:
            if order.key is not None:
                row = connection.execute("SELECT * FROM job WHERE key = ?", (order.key,)).fetchone()
                if row is not None:
                    return _same(row, fingerprint)
            self._check_room(connection)
            job_id = f"video_{secrets.token_hex(12)}"
            connection.execute(
                "INSERT INTO job (id, model, request, fingerprint, priority, key, format, status, created)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, 'queued', ?)",
                (job_id, order.name, request, fingerprint, order.priority, order.key, order.format, _now()),
            )  # fmt: skip
            return read_job(_row(connection, job_id))

    def get(self, job_id: str) -> Job:
        """The job with this id; raises JobNotFound."""
        with self.database.reading() as connection:
            return read_job(_row(connection, job_id))

    def list(
        self,
        after: str | None = None,
        limit: int = 20,
        order: Literal["asc", "desc"] = "desc",
        status: Status | None = None,
    ) -> Page:
        """``limit`` jobs by age, those behind the job ``after``; "desc" begins with the newest.

        Raises JobNotFound for ``after``, InvalidRequest for what is out of range.
        """
        if type(limit) is not int or limit not in _PAGE:
            raise InvalidRequest(f"limit must be {_PAGE[0]} to {_PAGE[-1]}, not {limit!r:.40}")
        if order not in ("asc", "desc"):
            raise InvalidRequest(f"order must be asc or desc, not {order!r:.40}")
        if status is not None and status not in STATUSES:
            raise InvalidRequest(f"status must be one of {', '.join(STATUSES)}, not {status!r:.40}")
        compare = "<" if order == "desc" else ">"
        with self.database.reading() as connection:
            number = None if after is None else _row(connection, after)["number"]
            rows = connection.execute(
                f"SELECT * FROM job WHERE (:number IS NULL OR number {compare} :number)"
                f" AND (:status IS NULL OR status = :status) ORDER BY number {order} LIMIT :limit",
                {"number": number, "status": status, "limit": limit + 1},
            ).fetchall()
        return Page(tuple(read_job(row) for row in rows[:limit]), len(rows) > limit)

    def cancel(self, job_id: str) -> Job:
        """The job, cancelled if it waited, about to be if it runs, and unchanged if it is over."""
        with self.database.transaction() as connection:
            _row(connection, job_id)
            connection.execute(
                "UPDATE job SET status = 'cancelled', finished = ? WHERE id = ? AND status = 'queued'",
                (_now(), job_id),
            )
            connection.execute("UPDATE job SET cancelling = 1 WHERE id = ? AND status = 'running'", (job_id,))
            job = read_job(_row(connection, job_id))
        if job.status == "cancelled":
            self.forget_run(job)
        return job

    def delete(self, job_id: str) -> Job:
        """Forget the job with its video and its checkpoint; the job as it was.

        Raises JobNotReady while it runs.
        """
        with self.database.transaction() as connection:
            job = read_job(_row(connection, job_id))
            if job.status == "running":
                raise JobNotReady(f"{job.id} is running: cancel it before you delete it")
            connection.execute("DELETE FROM job WHERE id = ?", (job_id,))
        self.outputs.remove(job.output)
        self.forget_run(job)
        return job

    def video(self, job: Job) -> Path:
        """The finished video's file; raises JobNotReady when there is none."""
        if job.status != "completed" or job.output is None:
            raise JobNotReady(f"{job.id} has no video: it is {job.status}")
        return self.outputs.path(job.output)

    def position(self, job: Job) -> int | None:
        """How many waiting jobs are before this one; None unless it waits."""
        if job.status != "queued":
            return None
        with self.database.reading() as connection:
            before = connection.execute(
                "SELECT count(*) FROM job WHERE status = 'queued' AND (priority > :priority OR"
                " (priority = :priority AND number < (SELECT number FROM job WHERE id = :id)))",
                {"priority": job.priority, "id": job.id},
            ).fetchone()[0]
        return int(before)

    def counts(self) -> dict[Status, int]:
        """How many jobs there are of each status."""
        with self.database.reading() as connection:
            found = dict(connection.execute("SELECT status, count(*) FROM job GROUP BY status").fetchall())
        return {status: int(found.get(status, 0)) for status in STATUSES}

    def expire(self, age_s: float, size_bytes: int) -> tuple[Job, ...]:
        """Delete what was finished ``age_s`` ago, and the oldest while the videos take more than
        ``size_bytes``; those that were deleted."""
        gone = []
        for job_id in tuple(self._expired(age_s, size_bytes)):
            with suppress(JobNotFound):  # deleted by its owner meanwhile
                gone.append(self.delete(job_id))
        return tuple(gone)

    def sweep(self) -> int:
        """Delete what lies among the videos and is no job's; how many files. None while jobs run."""
        with self.database.reading() as connection:
            rows = connection.execute("SELECT output FROM job WHERE output IS NOT NULL").fetchall()
        return 0 if self.counts()["running"] else self.outputs.sweep({str(name) for (name,) in rows})

    def forget_run(self, job: Job) -> None:
        """Remove the job's checkpoint, if it has one."""
        if job.run_id is not None:
            with suppress(ModelNotFound):
                runs.find(self.home, job.run_id).forget()

    def close(self) -> None:
        self.database.close()

    def _expired(self, age_s: float, size_bytes: int) -> Iterator[str]:
        """Newest first, each stays that is young enough and fits with those before it."""
        with self.database.reading() as connection:
            rows = connection.execute(
                "SELECT id, finished, size FROM job WHERE finished IS NOT NULL"
                " ORDER BY finished DESC, number DESC"
            ).fetchall()
        kept = 0
        for row in rows:
            kept += row["size"] or 0
            if row["finished"] < _now() - age_s or (row["size"] and kept > size_bytes):
                yield row["id"]

    def _check_room(self, connection: Connection) -> None:
        waiting = connection.execute("SELECT count(*) FROM job WHERE status = 'queued'").fetchone()[0]
        if waiting < self.queue:
            return
        mean = connection.execute(
            "SELECT avg(finished - started) FROM (SELECT finished, started FROM job"
            f" WHERE status = 'completed' ORDER BY finished DESC LIMIT {_RECENT})"
        ).fetchone()[0]
        retry_s = min(_LONGEST_RETRY_S, max(1, round(_GUESS_S if mean is None else mean)))
        raise QueueFull(f"the queue is full: {waiting} jobs wait; try again in {retry_s} s", retry_s)


def _same(row: Row, fingerprint: str) -> Job:
    if row["fingerprint"] != fingerprint:
        raise KeyReused("this idempotency key came with another request before: use a new one")
    return read_job(row)


def _row(connection: Connection, job_id: str) -> Row:
    row = None
    if isinstance(job_id, str) and _ID.fullmatch(job_id):
        row = connection.execute("SELECT * FROM job WHERE id = ?", (job_id,)).fetchone()
    if row is None:
        raise JobNotFound(f"there is no job {job_id!r:.60}")
    assert isinstance(row, Row)
    return row


def _now() -> float:
    return time.time()
