"""Adapters in the store: made, listed, moved, verified and collected with their bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.modelfile.files import ADAPTERS, MODELFILE, lora, save, save_adapters, save_language_model
from tests.store import invariants
from wanrun.errors import FormatError, InvalidRequest, StoreError
from wanrun.modelfile.grammar import parse
from wanrun.store import garbage, manifests
from wanrun.store.archive import export_archive, import_archive
from wanrun.store.creation import create, describe, quiet
from wanrun.store.manifests import ADAPTER_TYPE, Layer
from wanrun.store.names import parse_name
from wanrun.store.store import Store
from wanrun.store.verify import verify
from wanrun.types import Bundle

WAN = parse_name("wan")


@pytest.fixture
def adapters(parts: Path) -> Path:
    """The parts' folder with adapters in it."""
    save_adapters(parts)
    return parts


def make(store: Store, folder: Path, text: str = MODELFILE + ADAPTERS, name: str = "wan") -> Bundle:
    return create(store, name, parse(text), folder)


def kept(bundle: Bundle) -> list[tuple[str, float, str]]:
    return [(each.role, each.scale, each.component.origin) for each in bundle.adapters]


KEPT = [
    ("high_noise", 1.0, "lightning_high.safetensors"),
    ("low_noise", 0.75, "lightning_low.safetensors"),
    ("", -0.5, "style.safetensors"),
]


def test_a_bundle_keeps_its_adapters_in_order(store: Store, adapters: Path) -> None:
    bundle = make(store, adapters)
    assert kept(bundle) == KEPT
    assert bundle == store.get("wan")
    for adapter in bundle.adapters:
        assert adapter.component.path.read_bytes() == (adapters / adapter.component.origin).read_bytes()
    assert [each.component.origin for each in bundle.adapters if each.serves("low_noise")] == [
        "lightning_low.safetensors",
        "style.safetensors",
    ]
    data = json.loads(manifests.read_bytes(store.manifests, WAN))
    notes = [layer["annotations"] for layer in data["layers"] if layer["mediaType"] == ADAPTER_TYPE]
    assert [note.get("dev.wanrun.role") for note in notes] == ["high_noise", "low_noise", None]
    assert [note["dev.wanrun.scale"] for note in notes] == ["1.0", "0.75", "-0.5"]
    assert [note["dev.wanrun.order"] for note in notes] == ["0", "1", "2"]
    invariants.hold(store)
    assert invariants.leftovers(store) == []


def test_order_and_scale_make_another_bundle(store: Store, adapters: Path) -> None:
    make(store, adapters)
    lines = ADAPTERS.strip().splitlines()
    for name, text in {"order": "\n".join(reversed(lines)), "scale": ADAPTERS.replace("0.75", "0.7")}.items():
        make(store, adapters, MODELFILE + text, name)
    assert len({entry.digest for entry in store.list()}) == 3


def test_inheritance(store: Store, adapters: Path) -> None:
    base = make(store, adapters)
    assert make(store, adapters, "FROM wan\nPARAMETER steps 4", "child").adapters == base.adapters
    other = make(store, adapters, "FROM wan\nADAPTER style.safetensors", "other")
    assert kept(other) == [("", 1.0, "style.safetensors")]
    with pytest.raises(InvalidRequest, match="it is for high_noise, and the model has diffusion"):
        make(store, adapters, "FROM wan\nDIFFUSION wan-low_noise.safetensors", "dense")


def test_a_bundle_can_be_made_of_its_own_files(store: Store, adapters: Path) -> None:
    """As ``show --modelfile`` writes them: paths of blobs, whose names are found again."""
    make(store, adapters)
    spec = describe(store, "wan")
    text = "\n".join(
        f"ADAPTER {part.role} {part.reference} {part.scale}".replace("  ", " ") for part in spec.adapters
    )
    make(store, adapters, f"{MODELFILE}\n{text}", "again")
    assert store.manifest("again").digest == store.manifest("wan").digest


def test_export_and_import(store: Store, adapters: Path, tmp_path: Path) -> None:
    make(store, adapters)
    export_archive(store, WAN, tmp_path / "wan.tar", quiet)
    his = Store(store.home.parent / "his")
    import_archive(his, tmp_path / "wan.tar", None, quiet)
    assert his.manifest("wan") == store.manifest("wan")
    assert kept(his.get("wan")) == KEPT
    invariants.hold(his)


def test_garbage_and_verification(store: Store, adapters: Path) -> None:
    bundle = make(store, adapters)
    make(store, adapters, MODELFILE, "plain")
    garbage.collect(store.home, everything=True)
    assert kept(store.get("wan")) == KEPT
    path = bundle.adapters[1].component.path
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    report = verify(store, [WAN], quiet)
    assert [finding.what.partition(" ")[0] for finding in report.findings] == ["lightning_low.safetensors"]
    with pytest.raises(StoreError):
        store.get("wan")
    store.remove("wan")
    assert not path.exists()
    assert invariants.leftovers(store) == []


def test_refused(store: Store, adapters: Path) -> None:
    save(adapters / "wide.safetensors", lora(width=256))
    save(adapters / "copy_low.safetensors", lora(), 0.1)
    save_language_model(adapters / "words.gguf")
    for problem, text in {
        "make 256 × 256": "ADAPTER wide.safetensors",
        "the adapters lightning_high.safetensors and copy_low.safetensors have the same bytes": (
            "ADAPTER high_noise lightning_high.safetensors\nADAPTER low_noise copy_low.safetensors"
        ),
        "is given for both experts": (
            "ADAPTER high_noise style.safetensors\nADAPTER low_noise style.safetensors"
        ),
        "this is nothing that wanrun knows, not an adapter": "ADAPTER words.gguf",
        "adapter: no such file: 'wan'; an adapter is a file": "ADAPTER wan",
    }.items():
        with pytest.raises(InvalidRequest, match=problem):
            make(store, adapters, f"{MODELFILE}\n{text}")
    assert store.list() == ()
    assert not store.blobs.exists() or invariants.leftovers(store) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"scale": "nan"}, "an adapter for 'high_noise' with scale 'nan'"),
        ({"scale": ""}, "with scale ''"),
        ({"scale": "1" * 400}, "with scale"),
        ({"role": "vae"}, "an adapter for 'vae'"),
        ({"role": "diffusion"}, "an adapter for 'diffusion'"),
        ({"order": "1"}, "adapter 0 says that it is number '1'"),
        ({"order": ""}, "adapter 0 says that it is number ''"),
        ({"title": "../x"}, "a title must be a plain file name"),
    ],
)
def test_manifests_of_others(store: Store, adapters: Path, changes: dict[str, Any], problem: str) -> None:
    make(store, adapters)
    data = json.loads(manifests.read_bytes(store.manifests, WAN))
    first = next(layer for layer in data["layers"] if layer["mediaType"] == ADAPTER_TYPE)
    for word, value in changes.items():
        key = manifests.TITLE if word == "title" else f"dev.wanrun.{word}"
        first["annotations"][key] = value
    with pytest.raises(FormatError, match=problem):
        manifests.decode(json.dumps(data).encode())


def test_an_adapter_twice(store: Store, adapters: Path) -> None:
    bundle = make(store, adapters)
    manifest = store.manifest("wan")
    one = manifest.adapters[0]
    layers = [*manifest.layers, Layer(ADAPTER_TYPE, one.digest, one.size, "", "b", "1.0", "3")]
    with pytest.raises(FormatError, match="an adapter is there twice"):
        manifests.decode(manifests.encode(layers))
    assert bundle.adapters
