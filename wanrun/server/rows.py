"""Reads a job from its row."""

from __future__ import annotations

import json
from dataclasses import fields
from sqlite3 import Row

from wanrun.errors import InvalidRequest, StoreError
from wanrun.runtime.runs import parse_request
from wanrun.server.job import Job

_PLAIN = [field.name for field in fields(Job) if field.name not in ("request", "cancelling")]


def read_job(row: Row) -> Job:
    """The job in ``row``; StoreError if another version wrote its request, or it is damaged."""
    try:
        request = parse_request(json.loads(row["request"]), f"job {row['id']}")
    except (InvalidRequest, ValueError, TypeError) as error:
        raise StoreError(f"job {row['id']} cannot be read: {error}") from error
    plain = {name: row[name] for name in _PLAIN}
    return Job(request=request, cancelling=bool(row["cancelling"]), **plain)
