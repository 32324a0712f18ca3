"""A server in this process whose jobs are not worked on: what becomes of them is the test's to say."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from wanrun.server.app import create_app
from wanrun.server.scheduler import Options
from wanrun.server.service import Service


@dataclass(frozen=True, slots=True)
class Idle:
    """A service, and where it is served."""

    service: Service
    url: str


@contextmanager
def idle(home: Path, queue: int = 64) -> Iterator[Idle]:
    """The service of ``home`` on a free port, without anybody who makes videos."""
    service = Service(home, Options(parallel=0), queue)
    server = uvicorn.Server(uvicorn.Config(create_app(service), port=0, log_config=None, ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started)
    try:
        yield Idle(service, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}")
    finally:
        service.scheduler.events.close()  # or the server would wait for those who listen
        server.should_exit = True
        thread.join()


def until(condition: Callable[[], bool]) -> None:
    """Wait for it."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
