"""Jobs in a home of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from wanrun.server.jobs import Jobs


@pytest.fixture
def jobs(home: Path) -> Iterator[Jobs]:
    opened = Jobs(home, queue=10)
    yield opened
    opened.close()
