"""Remembers uploads that are under way, so that another process can carry them on.

One small file per upload below ``$WANRUN_HOME/uploads``, readable by the user alone: the URL of an upload is
enough to write to it. A record is a hint: the registry is asked how far the upload has come.
"""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path

import httpx

from wanrun.sources.oci.repository import Repository, parse_url
from wanrun.store.digest import Digest
from wanrun.store.durable import make_folder

_MAX_BYTES = 8192
_FORGOTTEN_S = 7 * 24 * 3600


def record_path(home: Path, repository: Repository, digest: Digest) -> Path:
    """Where the URL of that blob's upload is kept."""
    return home / "uploads" / hashlib.sha256(f"{repository}@{digest}".encode()).hexdigest()


def load(record: Path) -> httpx.URL | None:
    """The URL that was kept, if any; whether it may be asked is the client's to say."""
    try:
        with record.open("rb") as file:
            return parse_url(file.read(_MAX_BYTES).decode("ascii"))
    except (OSError, ValueError):
        return None


def save(record: Path, url: httpx.URL) -> None:
    """Keeps ``url``. A record that cannot be written costs an upload from the start, nothing else."""
    with suppress(OSError):
        make_folder(record.parent)
        fresh = record.with_name(f".{record.name}.{os.getpid()}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(str(url).encode())
        fresh.replace(record)


def forget(record: Path) -> None:
    """Drops the record, and those that no registry remembers any more."""
    with suppress(OSError):
        record.unlink(missing_ok=True)
        for other in record.parent.iterdir():
            if time.time() - other.stat().st_mtime > _FORGOTTEN_S:
                other.unlink()
