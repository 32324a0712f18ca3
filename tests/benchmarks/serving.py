"""Starts servers for benchmarks: processes that may be killed and started again at the same port."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.runtime.machines import keep
from wanrun.store import pulling
from wanrun.store.creation import quiet
from wanrun.store.store import Store


@dataclass(frozen=True, slots=True)
class Served:
    """A server that takes requests."""

    url: str
    process: subprocess.Popen[str]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


def stored(home: Path) -> Path:
    """``home`` with wan-toy in its store, on a machine that was measured."""
    keep(home, "cpu")
    pulling.pull(Store(home), "wan-toy", quiet)
    return home


def serve(home: Path, port: int = 0, **environment: str) -> Served:
    """``wanrun serve`` for ``home`` on ``port``; 0 takes any that is free."""
    chosen = {"WANRUN_HOME": str(home), "WANRUN_HOST": f"127.0.0.1:{port}", "WANRUN_DEVICE": "cpu"}
    with (home / "server.log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "wanrun.cli", "serve"],
            env=os.environ | chosen | environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("Listening on "):
            return Served(line.removeprefix("Listening on ").strip(), process)
    raise RuntimeError(f"the server did not start: {(home / 'server.log').read_text()[-2000:]}")
