"""What an attacker may plant in a store or say as a name: nothing outside the store is read, made or deleted.

The attacks are those of CVE-2024-37032, CVE-2025-44779, CVE-2026-7020, CVE-2025-1975 and CVE-2024-39722 on a
similar store, and foreign files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.modelfile.files import MODELFILE
from wanrun.errors import InvalidRequest, ModelNotFound, StoreError, WanrunError
from wanrun.modelfile.grammar import parse
from wanrun.store import garbage, leases, manifests
from wanrun.store.creation import create, describe, quiet, resolve
from wanrun.store.digest import Digest
from wanrun.store.names import parse_name
from wanrun.store.planning import plan
from wanrun.store.pulling import pull
from wanrun.store.store import Store
from wanrun.store.verify import verify

BAD = parse_name("bad")


@pytest.fixture
def filled(store: Store, parts: Path) -> Store:
    create(store, "wan", parse(MODELFILE), parts)
    (store.home.parent / "victim").write_bytes(b"precious")
    return store


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below ``folder`` with its size and time of change."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.name != "lock" and not path.is_dir()
    }


def every_use(store: Store, name: str) -> None:
    """All that can be done with a name but removing it; each either works or says what is wrong."""
    uses: tuple[Callable[[], Any], ...] = (
        lambda: store.get(name),
        lambda: store.copy(name, "copy"),
        lambda: describe(store, name),
        lambda: resolve(store, name),
        lambda: create(store, "child", parse(f"FROM {name}"), store.home),
        lambda: verify(store, [parse_name(name)], quiet),
        lambda: garbage.collect(store.home, everything=True),
        store.list,
        store.damaged,
    )
    for use in uses:
        try:
            use()
        except WanrunError as error:
            assert str(error)


@pytest.mark.parametrize(
    "digest",
    [
        "sha256:../../../victim",
        "sha256:../victim",
        "sha256-..%2f..%2fvictim",
        "../victim",
        "/etc/passwd",
        "sha256:" + "0" * 63,
        "sha256:" + "0" * 65,
        "sha256:" + "A" * 64,
        "sha512:" + "0" * 64,
        "sha256:",
        "",
        None,
        7,
        ["sha256:" + "0" * 64],
    ],
)
def test_digests_that_are_paths(filled: Store, digest: object) -> None:
    data = json.loads(manifests.manifest_path(filled.manifests, parse_name("wan")).read_bytes())
    for place in (data["layers"][0], data["config"]):
        planted = json.loads(json.dumps(data))
        target = planted["config"] if place is data["config"] else planted["layers"][0]
        target["digest"] = digest
        plant(filled, json.dumps(planted).encode())
        before = tree(filled.home.parent)
        every_use(filled, "bad")
        assert tree(filled.home.parent) == before
        with pytest.raises(StoreError, match="damaged"):
            filled.get("bad")
        filled.remove("bad")
        assert [str(entry.name) for entry in filled.list()] == ["wan:latest"]
    assert (filled.home.parent / "victim").read_bytes() == b"precious"


def plant(store: Store, data: bytes) -> Path:
    path = manifests.manifest_path(store.manifests, BAD)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"null",
        b"\xff" * 99,
        b"[" * 99_999,
        b'{"schemaVersion": 2, "layers": [' + b"{}," * 100_000 + b"{}]}",
        b'{"layers": [{"size": -1}]}',
        b'{"layers": [{"size": 1e999}]}',
        b" " * (5 << 20),
    ],
    ids=range(9),
)
def test_manifests_that_are_none(filled: Store, data: bytes) -> None:
    plant(filled, data)
    every_use(filled, "bad")
    assert [str(entry.name) for entry in filled.list()] == ["wan:latest"]
    assert len(filled.damaged()) == 1
    assert [finding.what for finding in verify(filled, [BAD], quiet).findings] == ["manifest"]
    filled.remove("bad")
    assert filled.damaged() == ()


def test_manifests_that_are_no_files(filled: Store) -> None:
    """A pipe is not waited for, and a link leads nowhere that is not a sound bundle."""
    path = plant(filled, b"")
    path.unlink()
    os.mkfifo(path)
    every_use(filled, "bad")
    with pytest.raises(StoreError, match="damaged"):
        filled.get("bad")
    path.unlink()
    path.symlink_to("/etc/passwd")
    every_use(filled, "bad")
    filled.remove("bad")
    assert Path("/etc/passwd").exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir()
    every_use(filled, "bad")


def test_foreign_files_are_left_alone(filled: Store) -> None:
    outside = filled.home.parent / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"x")
    foreign = [
        filled.blobs / "sha256-..",
        filled.blobs / "notes.txt",
        filled.blobs / ("sha256-" + "g" * 64),
        filled.manifests / "wanrun.local" / "notes.txt",
        filled.manifests / "wanrun.local" / "library" / "wan" / ".DS_Store",
        filled.manifests / "wanrun.local" / "library" / "wan" / "a%2fb",
    ]
    for path in foreign:
        path.write_bytes(b"mine")
    (filled.blobs / ("sha256-" + "0" * 64)).mkdir()
    (filled.manifests / "link").symlink_to(outside)
    (filled.blobs / "link").symlink_to(outside / "file")
    os.mkfifo(filled.blobs / ("sha256-" + "1" * 64))
    every_use(filled, "wan")
    filled.remove("wan")
    filled.remove("copy")
    filled.remove("child")
    garbage.collect(filled.home, everything=True)
    assert all(path.read_bytes() == b"mine" for path in foreign)
    assert (outside / "file").read_bytes() == b"x"
    assert filled.list() == ()


NAMES = [
    "..",
    "../..",
    "../victim",
    "a/../b",
    "%2e%2e/%2e%2e/x",
    "..%2fvictim",
    "wan\0",
    "wan\n",
    "a∕b∕c",
    "a／b",
    "/etc/passwd",
    "./wan",
    "-rf",
    "wan:../x",
    "wan:",
    ":x",
    "a//b",
    "C:\\wan",
    "wan@sha256:" + "0" * 64,
    "x" * 5000,
    "hf.co/../..",
    "hf.co/a/b:..",
    "",
    " ",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_paths(filled: Store, name: str) -> None:
    before = tree(filled.home.parent)
    uses: tuple[Callable[[], Any], ...] = (
        lambda: filled.get(name),
        lambda: filled.remove(name),
        lambda: filled.copy("wan", name),
        lambda: filled.copy(name, "x"),
        lambda: create(filled, name, parse(MODELFILE), filled.home),
        lambda: describe(filled, name),
        lambda: pull(filled, name, quiet),
        lambda: plan(filled, name),
    )
    for use in uses:
        with pytest.raises(InvalidRequest):
            use()
    assert tree(filled.home.parent) == before


def test_leases_that_are_none(filled: Store) -> None:
    """What is no digest in a lease spares and deletes nothing."""
    path = filled.home / "leases" / "wanrun.local" / "library" / "bad" / "latest"
    path.parent.mkdir(parents=True)
    path.write_bytes(
        b"sha256:../../victim\n\xff\xff\n" + str(Digest.of(b"x")).encode() + b"\nsha256:" + b"0" * 99
    )
    (path.parent / "pipe").symlink_to("/dev/zero")
    assert leases.kept(filled.home) == {Digest.of(b"x")}
    garbage.collect(filled.home, everything=True)
    assert leases.kept(filled.home) == set()
    assert (filled.home.parent / "victim").read_bytes() == b"precious"
    with pytest.raises(ModelNotFound):
        filled.get("bad")
