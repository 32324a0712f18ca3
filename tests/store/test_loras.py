"""LoRAs that requests bring: how they are written, where they may come from, how long they stay."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.modelfile.files import ADAPTERS, MODELFILE, lora, save, save_adapters
from wanrun.errors import InvalidRequest, ModelNotFound
from wanrun.modelfile.grammar import parse as parse_modelfile
from wanrun.store import garbage, leases
from wanrun.store.blobs import blob_path
from wanrun.store.creation import create, quiet
from wanrun.store.digest import Digest
from wanrun.store.loras import Wanted, allow, bring, parse, with_loras
from wanrun.store.store import Store
from wanrun.types import Bundle, Lora


@pytest.fixture
def store(home: Path) -> Store:
    """That of the settings, which runs use."""
    return Store(home)


@pytest.fixture
def adapted(store: Store, parts: Path) -> Bundle:
    """A model with adapters for each expert and for both, called ``adapted``."""
    save_adapters(parts)
    return create(store, "adapted", parse_modelfile(MODELFILE + ADAPTERS), parts)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("style.safetensors", Wanted("style.safetensors")),
        (" ./a b.safetensors:0.8 ", Wanted("./a b.safetensors", "", 0.8)),
        ("high_noise=x/y.safetensors:-.5", Wanted("x/y.safetensors", "high_noise", -0.5)),
        (
            "low_noise=hf.co/me/repo/f.safetensors@main",
            Wanted("hf.co/me/repo/f.safetensors@main", "low_noise"),
        ),
        ("https://h:80/f.safetensors#sha256=ab:2", Wanted("https://h:80/f.safetensors#sha256=ab", "", 2.0)),
        ("wan:lightning", Wanted("wan:lightning")),
        ("sha256:" + "1a" * 32 + ":1.5", Wanted("sha256:" + "1a" * 32, "", 1.5)),
        ("/a=b.safetensors", Wanted("/a=b.safetensors")),
    ],
)
def test_how_one_is_written(text: str, wanted: Wanted) -> None:
    assert parse(text) == wanted


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "say which LoRA"),
        ("  ", "say which LoRA"),
        ("a:101", "from -100 to 100, not 101.0"),
        ("a:-999999999", "from -100 to 100"),
        ("vae=a", "for high_noise or low_noise, not for 'vae'"),
        ("diffusion=a", "for high_noise or low_noise"),
    ],
)
def test_what_is_none(text: str, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        parse(text)
    with pytest.raises(InvalidRequest, match="not nan"):
        Wanted("a", "", float("nan"))


def test_the_machines_user_brings_files_digests_and_models(
    store: Store, adapted: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = save(tmp_path / "style.safetensors", lora(), 0.7)
    digest = Digest.of(path.read_bytes())
    expected = Lora("high_noise", 0.5, str(digest), "style.safetensors")
    for reference in ("style.safetensors", str(path), "./style.safetensors"):
        assert bring(store, [Wanted(reference, "high_noise", 0.5)], quiet) == (expected,)
    assert blob_path(store.blobs, digest).read_bytes() == path.read_bytes()
    (again,) = bring(store, [Wanted(str(digest))], quiet)
    assert again == Lora("", 1.0, str(digest), f"sha256-{digest.short}")
    of_model = bring(store, [Wanted("adapted", "", 2.0)], quiet)
    assert [(each.role, each.scale) for each in of_model] == [
        ("high_noise", 2.0),
        ("low_noise", 1.5),
        ("", -1.0),
    ]
    assert [each.digest for each in of_model] == [each.component.digest for each in adapted.adapters]
    low = bring(store, [Wanted("adapted", "low_noise")], quiet)
    assert [(each.role, each.scale) for each in low] == [("low_noise", 0.75), ("low_noise", -0.5)]
    for reference, kind, problem in (
        ("none.safetensors", ModelNotFound, "no such file"),
        ("nobody", InvalidRequest, "there is no LoRA 'nobody'"),
        ("sha256:" + "0" * 64, ModelNotFound, "the store has no file"),
        ("hf.co/me", InvalidRequest, "hf.co"),
    ):
        with pytest.raises(kind, match=problem):
            bring(store, [Wanted(reference)], quiet)


def test_a_client_has_names_digests_and_models_but_no_paths(
    store: Store, adapted: Bundle, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(home / "loras" / "style.safetensors", lora(), 0.7)
    secret = save(tmp_path / "secret.safetensors", lora(), 0.1)
    monkeypatch.chdir(tmp_path)
    (one,), (other,) = (allow(store, [Wanted(name)]) for name in ("style", "style.safetensors"))
    assert one == other == Lora("", 1.0, str(Digest.of(path.read_bytes())), "style.safetensors")
    assert len(allow(store, [Wanted("adapted")])) == 3
    assert allow(store, [Wanted(one.digest, title="mine")])[0].origin == "mine"
    (home / "loras" / "inner").mkdir()
    save(home / "loras" / "inner" / "deep.safetensors", lora())
    os.mkfifo(home / "loras" / "pipe")
    hostile = [
        *(str(secret), "secret.safetensors", "secret", "../secret.safetensors", "~/x", "inner", "pipe"),
        *("inner/deep.safetensors", "..", ".", "./style.safetensors", "style.safetensors\0", "", "a" * 5000),
        *("hf.co/me/repo/file.safetensors", "https://127.0.0.1/x.safetensors", "file:///etc/passwd"),
        *("sha256:../../x", "sha256-" + "G" * 64, str(path)),
    ]
    for reference in hostile:
        with pytest.raises((InvalidRequest, ModelNotFound)):
            allow(store, [Wanted(reference)])
    monkeypatch.setenv("WANRUN_LORAS", str(tmp_path))
    assert allow(store, [Wanted("secret")])[0].origin == "secret.safetensors"


def test_they_outlast_a_collection_and_not_their_lease(
    store: Store, adapted: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "style.safetensors", lora(), 0.7)
    brought = bring(store, [Wanted(str(path), "", 0.5)], quiet)
    garbage.collect(store.home)
    *own, last = with_loras(adapted, brought).adapters
    assert tuple(own) == adapted.adapters
    assert (last.role, last.scale, last.component.digest) == ("", 0.5, brought[0].digest)
    assert last.component.path.read_bytes() == path.read_bytes()
    assert with_loras(adapted, ()) is adapted
    monkeypatch.setattr(leases, "ABANDONED_S", 0.0)
    garbage.collect(store.home)
    with pytest.raises(
        InvalidRequest, match=r"the LoRA style\.safetensors \(sha256:.*ask for its file again"
    ):
        with_loras(adapted, brought)
