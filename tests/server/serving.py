"""Starts ``wanrun serve`` as its users do: a process, a home, a port that is free."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.runtime.machines import keep
from wanrun.store import pulling
from wanrun.store.creation import quiet
from wanrun.store.store import Store


@dataclass(frozen=True, slots=True)
class Server:
    """A server that takes requests at ``url``, whose files are below ``home``."""

    url: str
    home: Path
    process: subprocess.Popen[str]
    #: What it writes to standard error.
    log: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


@contextmanager
def serving(folder: Path, **environment: str) -> Iterator[Server]:
    """A server with wan-toy, in ``folder/home``; ``environment`` has more settings. It ends by SIGTERM."""
    home = folder / "home"
    keep(home, "cpu")
    pulling.pull(Store(home), "wan-toy", quiet)
    with start(home, folder / "log", **environment) as server:
        yield server


@contextmanager
def start(home: Path, log: Path, **environment: str) -> Iterator[Server]:
    """A server for a home that is there."""
    command = [sys.executable, "-P", "-m", "wanrun.cli", "serve"]
    chosen = {"WANRUN_HOST": "127.0.0.1:0", "WANRUN_DEVICE": "cpu", "WANRUN_HOME": str(home)} | environment
    with log.open("a") as errors:
        process = subprocess.Popen(
            command, env=os.environ | chosen, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    try:
        yield Server(_url(process, log), home, process, log)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()


def _url(process: subprocess.Popen[str], log: Path) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("Listening on "):
            return line.removeprefix("Listening on ").strip()
    raise AssertionError(f"the server did not start: {log.read_text()}")
