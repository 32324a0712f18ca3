"""The file that jobs are kept in: SQLite with a write-ahead log, for many threads and processes."""

from __future__ import annotations

import fcntl
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wanrun.errors import StoreError
from wanrun.store.durable import make_folder, store_errors

FILE = "jobs.sqlite"
#: Counted up with every change of the tables, which then brings the older ones up to date.
VERSION = 1
#: Seconds to wait for another process's transaction; each takes some milliseconds.
_WAIT_S = 30.0
_TABLES = """
CREATE TABLE job (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    model TEXT NOT NULL,
    request TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    priority INTEGER NOT NULL,
    key TEXT UNIQUE,
    format TEXT NOT NULL,
    status TEXT NOT NULL
        CHECK (status IN ('queued', 'running', 'completed', 'failed', 'cancelled')),
    created REAL NOT NULL,
    started REAL,
    finished REAL,
    phase TEXT NOT NULL DEFAULT '',
    step INTEGER NOT NULL DEFAULT 0,
    total INTEGER NOT NULL DEFAULT 0,
    rate REAL,
    left_s REAL,
    error TEXT,
    run_id TEXT,
    output TEXT UNIQUE,
    size INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    cancelling INTEGER NOT NULL DEFAULT 0,
    owner TEXT,
    CHECK ((status = 'running') = (owner IS NOT NULL)),
    CHECK (status <> 'completed' OR output IS NOT NULL)
) STRICT;
CREATE INDEX job_next ON job (status, priority DESC, number);
CREATE INDEX job_finished ON job (finished) WHERE finished IS NOT NULL;
"""


class Database:
    """One connection that writes and one that reads, which threads take turns with; a third sees changes.

    Who reads does not wait until what another writes is on disk, which takes long on some.
    """

    def __init__(self, home: Path) -> None:
        """Raises StoreError for a file that is damaged or that a newer version wrote."""
        with store_errors("cannot open the job database"):
            make_folder(home)
        self._lock, self._reading, self._watching = threading.RLock(), threading.Lock(), threading.Lock()
        with _explained(), _one_at_a_time(home):
            self._connection = _connect(home)
            try:
                self._prepare()
                self._reader = _connect(home)
                self._reader.execute("PRAGMA query_only=ON")
                self._watcher = _connect(home)
            except BaseException:
                self._connection.close()
                raise

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All that happens within, on disk when it ends, or nothing; no other process writes meanwhile."""
        with self._lock, _explained():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """For single statements that read what is written for good."""
        with self._reading, _explained():
            yield self._reader

    def version(self) -> int:
        """Another number than before if any process has written anything since; takes microseconds."""
        with self._watching, _explained():
            return int(self._watcher.execute("PRAGMA data_version").fetchone()[0])

    def close(self) -> None:
        with self._lock, self._reading, self._watching:
            self._watcher.close()
            self._reader.close()
            self._connection.close()

    def _prepare(self) -> None:
        connection = self._connection
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(found)
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if version == 0 and tables == 0:
            connection.executescript(f"BEGIN; {_TABLES} PRAGMA user_version={VERSION}; COMMIT;")
        elif version != VERSION:
            raise StoreError(
                f"the job database {FILE} has version {version}, and this wanrun reads {VERSION}: use the "
                "wanrun that wrote it, or move the file away to begin with no jobs"
            )


def _connect(home: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(home / FILE, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    return connection


@contextmanager
def _one_at_a_time(home: Path) -> Iterator[None]:
    """Switching to the write-ahead log does not wait for others who do the same."""
    with store_errors("cannot open the job database"), (home / f"{FILE}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except sqlite3.IntegrityError:
        raise
    except sqlite3.OperationalError as error:
        raise StoreError(
            f"the job database {FILE} cannot be used: {error}; is the disk full, or another program at it?"
        ) from error
    except sqlite3.ProgrammingError as error:
        raise StoreError(f"the job database {FILE} is closed") from error
    except sqlite3.DatabaseError as error:
        raise StoreError(
            f"the job database {FILE} is damaged: {error}; move it away to begin with no jobs (videos stay)"
        ) from error
