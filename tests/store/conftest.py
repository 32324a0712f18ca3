"""A store in a temporary home, and files to fill it with."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.modelfile.files import save_parts
from wanrun.store.store import Store

_MEMORY = Path("/dev/shm")


@pytest.fixture
def store() -> Iterator[Store]:
    """In memory where that can be, because a store syncs a lot."""
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        yield Store(Path(folder) / "home")


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """A folder with a Modelfile and the files that it names."""
    return save_parts(tmp_path / "parts")
