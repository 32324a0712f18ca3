"""The store: what is made is listed, whole and the same; what is removed is gone."""

from __future__ import annotations

import os
import resource
import stat
from pathlib import Path

import pytest

from tests.modelfile.files import MODELFILE, save, save_parts, transformer
from tests.store import invariants
from wanrun.errors import InvalidRequest, ModelNotFound, StoreError
from wanrun.modelfile import library
from wanrun.modelfile.grammar import parse, read
from wanrun.store import creation
from wanrun.store.creation import create, describe, resolve
from wanrun.store.digest import Digest
from wanrun.store.store import Store
from wanrun.types import Bundle


def make(store: Store, parts: Path, name: str = "wan", text: str = MODELFILE) -> Bundle:
    return create(store, name, parse(text), parts)


def digests(bundle: Bundle) -> dict[str, str]:
    return {role: component.digest for role, component in bundle.components.items()}


def test_an_empty_store(store: Store) -> None:
    assert (store.list(), store.damaged()) == ((), ())
    for action in (store.get, store.remove, store.manifest):
        with pytest.raises(ModelNotFound, match=r"model 'wan(:latest)?' not found"):
            action("wan")
    with pytest.raises(ModelNotFound):
        store.copy("wan", "other")
    assert not store.blobs.exists()


def test_create_and_get(store: Store, parts: Path) -> None:
    bundle = make(store, parts)
    assert bundle == store.get("WAN:latest")
    assert bundle.name == "wan:latest"
    assert list(bundle.components) == ["high_noise", "low_noise", "text_encoder", "vae", "preview"]
    for component in bundle.components.values():
        data = (parts / component.origin).read_bytes()
        assert component.path.read_bytes() == data
        assert (component.digest, component.size) == (str(Digest.of(data)), len(data))
        assert not component.path.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)
    assert (bundle.template, bundle.negative, bundle.system) == ("{{ prompt }}, cinematic", "blurred", "")
    assert bundle.licenses == ("Apache-2.0\nSee the file.",)
    assert {"steps": 12, "size": (64, 48), "boundary": 0.875}.items() <= bundle.parameters.items()
    invariants.hold(store)
    assert invariants.leftovers(store) == []


def test_a_bundle_depends_on_its_parts_only(tmp_path: Path, parts: Path) -> None:
    """Two people who make the same bundle in different places get the same digest."""
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    make(here, parts)
    make(there, save_parts(tmp_path / "elsewhere"), "other")
    make(there, parts, "third", MODELFILE.replace("steps 12", "steps 13"))
    (first,), (second, third) = here.list(), there.list()
    assert first.digest == second.digest != third.digest
    assert first.size == sum(path.stat().st_size for path in here.blobs.iterdir())
    assert len(list(there.blobs.iterdir())) == len(list(here.blobs.iterdir())) + 1


def test_users_files_stay_theirs(store: Store, parts: Path) -> None:
    """A file that is edited in place after it was brought in changes no blob."""
    bundle = make(store, parts)
    for name in ("vae.safetensors", "umt5.gguf"):
        with (parts / name).open("r+b") as file:
            file.seek(-4, os.SEEK_END)
            file.write(b"\xff" * 4)
    assert (parts / "vae.safetensors").stat().st_nlink == 1
    assert digests(store.get("wan")) == digests(bundle)
    invariants.hold(store)


def test_a_modelfile_of_the_bundle_makes_it_again(store: Store, parts: Path, tmp_path: Path) -> None:
    make(store, parts)
    spec = describe(store, "wan")
    lines = [f"DIFFUSION {role} {spec.components[role].reference}" for role in ("high_noise", "low_noise")]
    lines += [
        f"{word} {spec.components[word.lower()].reference}" for word in ("TEXT_ENCODER", "VAE", "PREVIEW")
    ]
    rest = [line for line in MODELFILE.splitlines() if not line.startswith(("DIFF", "TEXT", "VAE", "PREV"))]
    again = make(store, tmp_path, "again", "\n".join([*lines, *rest]))
    first, second = store.list()
    assert first.digest == second.digest
    assert again.components == store.get("wan").components


def test_inheritance(store: Store, parts: Path) -> None:
    base = make(store, parts)
    child = make(store, parts, "me/child", "FROM wan\nPARAMETER steps 4\nNEGATIVE none")
    assert child.components == base.components
    assert (child.parameters["steps"], child.negative, child.template) == (4, "none", base.template)
    make(store, parts, "wan", "FROM wan\nPARAMETER steps 5")
    assert store.get("wan").parameters["steps"] == 5
    assert store.get("me/child").parameters["steps"] == 4
    invariants.hold(store)


def test_refused_bundles_leave_nothing(store: Store, parts: Path) -> None:
    save(parts / "copy.safetensors", transformer(), 1.0)
    bad = {
        "have the same bytes": MODELFILE.replace("./wan-low_noise.safetensors", "copy.safetensors"),
        "this is a VAE": MODELFILE.replace("umt5.gguf", "vae.safetensors"),
        "no plugin 's3' in sources": MODELFILE.replace("umt5.gguf", "s3://bucket/a.gguf"),
        "no such file": MODELFILE.replace("umt5.gguf", "nowhere.gguf"),
        "adapter: no such file": MODELFILE + "ADAPTER x.safetensors",
        "requires wanrun 99.0.0": MODELFILE + "REQUIRES 99.0.0",
        "model 'none:latest' not found": "FROM none",
    }
    for problem, text in bad.items():
        with pytest.raises(InvalidRequest, match=problem):
            make(store, parts, "wan", text)
    assert store.list() == ()
    assert not store.blobs.exists() or invariants.leftovers(store) == []


def test_copy_and_remove(store: Store, parts: Path) -> None:
    bundle = make(store, parts)
    store.copy("wan", "me/copy:x")
    assert [str(entry.name) for entry in store.list()] == ["wan:latest", "me/copy:x"]
    store.remove("wan")
    assert digests(store.get("me/copy:x")) == digests(bundle)
    invariants.hold(store)
    store.remove("me/copy:x")
    assert (store.list(), list(store.blobs.iterdir()), list(store.manifests.iterdir())) == ((), [], [])


def test_removal_frees_only_what_nobody_needs(store: Store, parts: Path) -> None:
    make(store, parts)
    save(parts / "new.safetensors", transformer(), 3.0)
    new = make(store, parts, "new", MODELFILE.replace("./wan-low_noise.safetensors", "new.safetensors"))
    store.remove("new")
    assert not new.components["low_noise"].path.exists()
    assert new.components["high_noise"].path.exists()
    invariants.hold(store)
    assert invariants.leftovers(store) == []


def test_replacing_a_bundle_frees_the_old(store: Store, parts: Path) -> None:
    old = make(store, parts)
    save(parts / "new.safetensors", transformer(), 3.0)
    make(store, parts, "wan", MODELFILE.replace("./wan-low_noise.safetensors", "new.safetensors"))
    assert not old.components["low_noise"].path.exists()
    assert invariants.leftovers(store) == []


def test_nothing_is_deleted_while_the_store_is_held(store: Store, parts: Path) -> None:
    bundle = make(store, parts)
    with store.hold():
        store.remove("wan")
        assert all(component.path.exists() for component in bundle.components.values())
        assert store.list() == ()
    make(store, parts, "other")
    store.remove("other")
    assert list(store.blobs.iterdir()) == []


def test_damage_stops_only_what_it_damages(store: Store, parts: Path) -> None:
    make(store, parts)
    for name in ("cut", "empty", "garbage"):
        store.copy("wan", name)
    folder = store.manifests / "wanrun.local" / "library"
    (folder / "cut" / "latest").write_bytes((folder / "cut" / "latest").read_bytes()[:-9])
    (folder / "empty" / "latest").write_bytes(b"")
    (folder / "garbage" / "latest").write_bytes(b"\xff" * 100)
    (folder / "foreign.txt").write_bytes(b"")
    (store.blobs / "foreign.txt").write_bytes(b"")
    assert [str(entry.name) for entry in store.list()] == ["wan:latest"]
    assert len(store.damaged()) == 3
    with pytest.raises(StoreError, match="manifest of cut:latest is damaged"):
        store.get("cut")
    # What a damaged manifest needs is unknown, so nothing is deleted until it is gone.
    make(store, parts, "short", MODELFILE.replace("steps 12", "steps 13"))
    blobs = set(store.blobs.iterdir())
    store.remove("short")
    assert set(store.blobs.iterdir()) == blobs
    for name in ("cut", "empty", "garbage"):
        store.remove(name)
    assert store.damaged() == ()
    assert invariants.leftovers(store) == ["foreign.txt"]


def test_missing_and_cut_blobs(store: Store, parts: Path) -> None:
    bundle = make(store, parts)
    vae = bundle.components["vae"].path
    for left in (b"x", None):
        vae.unlink()
        if left is not None:
            vae.write_bytes(left)
        assert store.list() == ()
        assert f"blob {bundle.components['vae'].digest} is missing or cut" in store.damaged()[0]
        with pytest.raises(StoreError, match="create it again or rm it"):
            store.get("wan")
        make(store, parts)
        invariants.hold(store)


def test_a_changed_modelfile_blob_is_noticed(store: Store, parts: Path) -> None:
    make(store, parts)
    path = store.blobs / store.manifest("wan").modelfile.digest.file_name
    path.write_bytes(path.read_bytes().replace(b"steps 12", b"steps 13"))
    with pytest.raises(StoreError, match="has changed"):
        store.get("wan")


def test_a_home_that_cannot_be_one(parts: Path) -> None:
    (parts / "home").write_bytes(b"")
    for home in (parts / "home", parts / "home" / "below"):
        store = Store(home)
        assert store.list() == ()
        with pytest.raises(StoreError, match="cannot lock the store"):
            make(store, parts)
        with pytest.raises(ModelNotFound):
            store.remove("wan")


def test_a_full_disk(store: Store, parts: Path) -> None:
    """A limit on the size of files stands in for the disk: the write fails half-way in the same manner."""
    make(store, parts)
    save(parts / "big.safetensors", transformer(width=256), 3.0)
    text = MODELFILE.replace("./wan-low_noise.safetensors", "big.safetensors")
    text = text.replace("wan-high_noise.safetensors", "big2.safetensors")
    save(parts / "big2.safetensors", transformer(width=256), 4.0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(StoreError, match=r"cannot bring .* into the store"):
            make(store, parts, "wan", text)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    invariants.hold(store)
    assert invariants.leftovers(store) == []
    assert store.get("wan").parameters["steps"] == 12
    make(store, parts, "wan", text)
    invariants.hold(store)


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shipped library with one model and one that builds on it."""
    monkeypatch.setattr(library, "__file__", str(tmp_path / "wanrun" / "modelfile" / "library.py"))
    save_parts(tmp_path / "modelfiles" / "wan-x")
    child = tmp_path / "modelfiles" / "wan-y" / "Modelfile.fast"
    child.parent.mkdir()
    child.write_text("FROM wan-x\nPARAMETER steps 4\n", encoding="utf-8")
    return tmp_path / "modelfiles"


def test_a_shipped_model_is_made_when_it_is_first_used(store: Store, shipped: Path) -> None:
    assert set(describe(store, "wan-y:fast").components) == {
        "high_noise",
        "low_noise",
        "text_encoder",
        "vae",
        "preview",
    }
    assert store.list() == ()
    bundle = resolve(store, "wan-y:fast")
    assert bundle.parameters["steps"] == 4
    assert [str(entry.name) for entry in store.list()] == ["wan-y:fast"]
    assert resolve(store, "wan-y:fast") == bundle
    assert digests(resolve(store, "wan-x")) == digests(bundle)
    with pytest.raises(ModelNotFound):
        resolve(store, "wan-y")
    with pytest.raises(ModelNotFound):
        resolve(store, "ghcr.io/library/wan-x")


def test_a_library_that_goes_round(store: Store, shipped: Path) -> None:
    (shipped / "wan-x" / "Modelfile").write_text("FROM wan-y:fast\n", encoding="utf-8")
    with pytest.raises(InvalidRequest, match="builds on itself: wan-x:latest → wan-y:fast → wan-x:latest"):
        describe(store, "wan-x")


def test_the_real_library_can_be_made(store: Store) -> None:
    for name in library.names():
        path = creation.shipped(name)
        assert path is not None
        if all(Path(part.reference).is_file() for part in describe(store, name).components.values()):
            assert resolve(store, name).name == str(name)
            assert read(path).from_ or read(path).components
