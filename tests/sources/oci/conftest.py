"""Stores with a bundle in them, and a registry to share it through."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.modelfile.files import save_parts
from tests.sources.oci import servers
from wanrun.modelfile import grammar
from wanrun.store.creation import create
from wanrun.store.manifests import read_bytes
from wanrun.store.names import parse_name
from wanrun.store.store import Store

_MEMORY = Path("/dev/shm")


@pytest.fixture(scope="session")
def memory() -> Iterator[Path]:
    """A folder in memory where that can be, because a store syncs a lot."""
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture
def stores(memory: Path) -> Iterator[tuple[Store, Store]]:
    """Two people's empty stores."""
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Store(Path(folder) / "hers"), Store(Path(folder) / "his")


@pytest.fixture(scope="session")
def parts(memory: Path) -> Path:
    """A folder with a Modelfile and the files that it names."""
    return save_parts(memory / "parts")


@pytest.fixture
def hers(stores: tuple[Store, Store], parts: Path) -> Store:
    """A store with the bundle ``wan``."""
    create(stores[0], "wan", grammar.read(parts / "Modelfile"), parts)
    return stores[0]


@pytest.fixture
def his(stores: tuple[Store, Store]) -> Store:
    return stores[1]


@pytest.fixture(scope="session")
def registry(memory: Path) -> Iterator[servers.Registry]:
    with servers.registry(memory / "registry") as running:
        yield running


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between tries are there, but short."""
    monkeypatch.setattr("wanrun.sources.oci.client._PAUSE_S", 0.005)


@pytest.fixture(autouse=True)
def docker_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where ``docker login`` would write; the user's own is never read."""
    folder = tmp_path / "docker"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    return folder / "config.json"


@pytest.fixture
def shared(hers: Store) -> tuple[bytes, dict[str, bytes]]:
    """The manifest of a sound bundle and its blobs by digest, for a server to twist."""
    name = parse_name("wan")
    blobs = {
        str(digest): (hers.blobs / digest.file_name).read_bytes() for digest in hers.manifest(name).blobs
    }
    data = read_bytes(hers.manifests, name)
    assert json.loads(data)["layers"]
    return data, blobs
