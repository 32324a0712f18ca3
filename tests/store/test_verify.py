"""Verification: every damaged byte is found, named, kept from being used, and repaired by making it again."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.modelfile.files import MODELFILE
from tests.store import invariants
from wanrun.errors import ModelNotFound, StoreError
from wanrun.modelfile.grammar import parse
from wanrun.store import manifests
from wanrun.store.creation import create, describe, quiet
from wanrun.store.names import parse_name
from wanrun.store.store import Store
from wanrun.store.verify import Report, repair, verify

WAN, OTHER = parse_name("wan"), parse_name("other")


@pytest.fixture
def filled(store: Store, parts: Path) -> Store:
    """A store with two bundles that differ in their settings only."""
    create(store, WAN, parse(MODELFILE), parts)
    create(store, OTHER, parse(MODELFILE.replace("steps 12", "steps 13")), parts)
    return store


def examine(store: Store) -> Report:
    return verify(store, manifests.names(store.manifests), quiet)


def flip(path: Path, seed: int) -> None:
    """Changes one bit."""
    data = bytearray(path.read_bytes())
    position = random.Random(seed).randrange(8 * len(data))
    data[position // 8] ^= 1 << position % 8
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(0o444)


def test_sound_bundles(filled: Store) -> None:
    seen: dict[str, int] = {}

    def note(phase: str, done: int, total: int) -> None:
        seen[phase] = done
        assert 0 < done <= total

    report = verify(filled, [WAN, OTHER], note)
    blobs = list(filled.blobs.iterdir())
    assert report == Report(2, len(blobs), sum(path.stat().st_size for path in blobs), ())
    assert seen["verifying vae.safetensors"] == (filled.get(WAN).components["vae"].size)


@pytest.mark.parametrize("role", ["high_noise", "text_encoder", "vae"])
def test_one_bit(filled: Store, parts: Path, role: str) -> None:
    component = filled.get(WAN).components[role]
    for seed in range(3):
        flip(component.path, seed)
        report = examine(filled)
        assert {finding.name for finding in report.findings} == {WAN, OTHER}
        for finding in report.findings:
            assert component.origin in finding.what
            assert component.digest in finding.what
            assert finding.reason == "its bytes have changed"
            assert finding.repair == f"wanrun create {finding.name} -f MODELFILE"
        assert (report.bundles, report.files) == (2, len(list(filled.blobs.iterdir())))
        with pytest.raises(StoreError, match="missing or cut"):
            filled.get(WAN)  # what is damaged is not run
        assert component.path.exists()
        create(filled, WAN, parse(MODELFILE), parts)
        assert examine(filled).findings == ()
        invariants.hold(filled)


def test_all_kinds_of_damage_at_once(filled: Store, parts: Path) -> None:
    components = filled.get(WAN).components
    components["vae"].path.unlink()
    components["high_noise"].path.chmod(0o644)
    components["high_noise"].path.write_bytes(b"short")
    components["preview"].path.unlink()
    components["preview"].path.mkdir()
    flip(components["low_noise"].path, 1)
    modelfile = filled.blobs / manifests.read(filled.manifests, WAN).modelfile.digest.file_name
    flip(modelfile, 2)
    reasons = {finding.what.split(" ")[0]: finding.reason for finding in examine(filled).findings}
    assert reasons == {
        "vae.safetensors": "it is missing",
        "wan-high_noise.safetensors": f"it has 5 bytes instead of {components['high_noise'].size}",
        "tae.safetensors": "it is not a file",
        "wan-low_noise.safetensors": "its bytes have changed",
        "Modelfile": "its bytes have changed",
    }
    components["preview"].path.rmdir()
    for name in (WAN, OTHER):
        create(filled, name, parse(MODELFILE.replace("steps 12", f"steps {12 + (name == OTHER)}")), parts)
    assert examine(filled).findings == ()


def test_a_damaged_manifest_stops_nothing(filled: Store) -> None:
    path = manifests.manifest_path(filled.manifests, OTHER)
    path.write_bytes(b"{}")
    flip(filled.get(WAN).components["vae"].path, 1)
    findings = examine(filled).findings
    assert [(finding.name, finding.what.split(" ")[0]) for finding in findings] == [
        (OTHER, "manifest"),
        (WAN, "vae.safetensors"),
    ]
    with pytest.raises(ModelNotFound):
        verify(filled, [parse_name("none")], quiet)


def test_a_blob_that_was_condemned_wrongly(filled: Store) -> None:
    """Memory that fails while reading condemns what is sound: reading it again takes that back."""
    path = filled.get(WAN).components["vae"].path
    path.chmod(0o200)
    assert filled.damaged()
    assert examine(filled).findings == ()
    assert filled.damaged() == ()


def test_a_damaged_blob_is_no_component(filled: Store, parts: Path) -> None:
    reference = describe(filled, WAN).components["vae"].reference
    flip(Path(reference), 1)
    examine(filled)
    with pytest.raises(StoreError, match="is damaged"):
        create(filled, "new", parse(MODELFILE.replace("VAE vae.safetensors", f"VAE {reference}")), parts)


def test_how_to_repair() -> None:
    for name, command in {
        "wan2.2-t2v-a14b:q8_0": "wanrun pull wan2.2-t2v-a14b:q8_0",
        "wan-toy": "wanrun pull wan-toy:latest",
        "hf.co/me/wan:q8_0": "wanrun pull hf.co/me/wan:q8_0",
        "ghcr.io/me/wan": "wanrun pull ghcr.io/me/wan:latest",
        "me/wan": "wanrun create me/wan:latest -f MODELFILE",
    }.items():
        assert repair(parse_name(name)) == command
