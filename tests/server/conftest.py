"""Jobs in a home of their own, and a real server with wan-toy that a whole session's tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.server.serving import Server, serving
from wanrun.server.jobs import Jobs


@pytest.fixture
def jobs(home: Path) -> Iterator[Jobs]:
    opened = Jobs(home, queue=10)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """``wanrun serve`` with wan-toy in its store. Leave no model but wan-toy, and no job that runs."""
    with serving(tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    """A plain client of the server."""
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client
