"""A database that is damaged, foreign or of another version is refused with words."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.server.orders import order
from wanrun.errors import StoreError
from wanrun.server.database import FILE, Database
from wanrun.server.jobs import Jobs


@pytest.mark.parametrize(
    "data", [b"not a database, and longer than its header" * 99, b"SQLite format 3\0" + b"\xff" * 4080]
)
def test_a_file_that_is_none_is_damaged(home: Path, data: bytes) -> None:
    home.mkdir()
    (home / FILE).write_bytes(data)
    with pytest.raises(StoreError, match=r"jobs\.sqlite is damaged.*move it away"):
        Jobs(home)
    assert (home / FILE).read_bytes() == data


def test_pages_that_were_overwritten_are_seen(home: Path) -> None:
    jobs = Jobs(home, queue=1000)
    for seed in range(100):
        jobs.create(order(seed=seed))
    jobs.close()
    data = bytearray((home / FILE).read_bytes())
    data[4096 : len(data) // 2] = b"\xa5" * (len(data) // 2 - 4096)
    (home / FILE).write_bytes(data)
    with pytest.raises(StoreError, match="is damaged"):
        Jobs(home)


def test_a_newer_version_is_refused(home: Path) -> None:
    Jobs(home).close()
    with sqlite3.connect(home / FILE) as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(StoreError, match="version 2, and this wanrun reads 1"):
        Jobs(home)


def test_another_programs_database_is_refused(home: Path) -> None:
    home.mkdir()
    with sqlite3.connect(home / FILE) as connection:
        connection.execute("CREATE TABLE other (x)")
    connection.close()
    with pytest.raises(StoreError, match="version 0"):
        Jobs(home)


def test_a_request_of_another_version_is_named(jobs: Jobs) -> None:
    made = jobs.create(order())
    with jobs.database.transaction() as connection:
        connection.execute("UPDATE job SET request = '{}'")
    with pytest.raises(StoreError, match=f"{made.id} was made by another version"):
        jobs.get(made.id)


def test_what_fails_half_way_leaves_nothing(home: Path) -> None:
    database = Database(home)
    with pytest.raises(RuntimeError), database.transaction() as connection:
        connection.execute(
            "INSERT INTO job (id, model, request, fingerprint, priority, format, status, created)"
            " VALUES ('x', 'm', '{}', '', 0, 'mp4', 'queued', 0)"
        )
        raise RuntimeError
    with database.reading() as connection:
        assert connection.execute("SELECT count(*) FROM job").fetchone()[0] == 0
    database.close()
    with pytest.raises(StoreError, match="closed"), database.reading() as connection:
        connection.execute("SELECT 1")
