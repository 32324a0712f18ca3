"""Manifests: OCI artifacts, strictly read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wanrun.errors import FormatError, ModelNotFound, StoreError
from wanrun.store.digest import Digest
from wanrun.store.manifests import (
    BUNDLE_TYPE,
    COMPONENT_TYPE,
    MANIFEST_TYPE,
    MAX_BYTES,
    MODELFILE_TYPE,
    Layer,
    decode,
    encode,
    manifest_path,
    names,
    read,
    write,
)
from wanrun.store.names import parse_name

VAE = Layer(COMPONENT_TYPE, Digest.of(b"vae"), 3, "vae", "wan_2.1_vae – 猫.safetensors")
MODELFILE = Layer(MODELFILE_TYPE, Digest.of(b"FROM x"), 6, title="Modelfile")


def test_it_is_an_oci_artifact() -> None:
    """Field by field against opencontainers/image-spec, manifest.md."""
    data = encode([VAE, MODELFILE])
    assert json.loads(data) == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.wanrun.bundle.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
            "size": 2,
        },
        "layers": [
            {
                "mediaType": "application/vnd.wanrun.component.v1",
                "digest": "sha256:" + hashlib.sha256(b"vae").hexdigest(),
                "size": 3,
                "annotations": {
                    "dev.wanrun.role": "vae",
                    "org.opencontainers.image.title": "wan_2.1_vae – 猫.safetensors",
                },
            },
            {
                "mediaType": "application/vnd.wanrun.modelfile.v1",
                "digest": "sha256:" + hashlib.sha256(b"FROM x").hexdigest(),
                "size": 6,
                "annotations": {"org.opencontainers.image.title": "Modelfile"},
            },
        ],
    }
    assert encode([VAE, MODELFILE]) == data


def test_it_reads_back() -> None:
    data = encode([VAE, MODELFILE])
    manifest = decode(data)
    assert manifest.digest.hex == hashlib.sha256(data).hexdigest()
    assert manifest.components == {"vae": VAE}
    assert manifest.modelfile == MODELFILE
    assert manifest.blobs == {Digest.of(b"{}"): 2, VAE.digest: 3, MODELFILE.digest: 6}


def test_layers_of_unknown_types_are_kept() -> None:
    strange = Layer("application/vnd.other", Digest.of(b"other"), 5)
    assert strange.digest in decode(encode([VAE, strange, MODELFILE])).blobs


def edited(change: Callable[[dict[str, Any]], Any]) -> bytes:
    manifest = json.loads(encode([VAE, MODELFILE]))
    change(manifest)
    return json.dumps(manifest).encode()


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(schemaVersion=1),
        lambda m: m.update(mediaType="application/vnd.docker.distribution.manifest.v2+json"),
        lambda m: m.pop("artifactType"),
        lambda m: m.update(artifactType=[BUNDLE_TYPE]),
        lambda m: m.pop("config"),
        lambda m: m.update(config=[]),
        lambda m: m.update(layers=None),
        lambda m: m.update(layers=[]),
        lambda m: m.update(layers={"0": {}}),
        lambda m: m.update(layers=m["layers"] * 50),
        lambda m: m["layers"].append(None),
        lambda m: m["layers"].append(m["layers"][0]),
        lambda m: m["layers"].append(m["layers"][1]),
        lambda m: m["layers"].pop(1),
        lambda m: m["layers"][0].pop("mediaType"),
        lambda m: m["layers"][0].update(digest=""),
        lambda m: m["layers"][0].update(digest="sha256:../../../etc/passwd"),
        lambda m: m["layers"][0].update(digest="sha256:" + "0" * 63),
        lambda m: m["layers"][0].update(digest=7),
        lambda m: m["layers"][0].update(size=-1),
        lambda m: m["layers"][0].update(size=True),
        lambda m: m["layers"][0].update(size=3.0),
        lambda m: m["layers"][0].update(size=1e30),
        lambda m: m["layers"][0].update(size=2**53),
        lambda m: m["layers"][0].update(size="3"),
        lambda m: m["layers"][0].update(annotations=[]),
        lambda m: m["layers"][0]["annotations"].update({"dev.wanrun.role": "../vae"}),
        lambda m: m["layers"][0]["annotations"].update({"dev.wanrun.role": 1}),
        lambda m: m["layers"][0]["annotations"].pop("dev.wanrun.role"),
        lambda m: m["layers"][1].update(size=(1 << 20) + 1),
        lambda m: m["layers"].append({**m["layers"][0], "size": 4, "mediaType": "other"}),
    ],
)
def test_wrong_parts_are_refused(change: Callable[[dict[str, Any]], Any]) -> None:
    with pytest.raises(FormatError):
        decode(edited(change))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"schemaVersion": 2, "schemaVersion": 2}',
        b'{"schemaVersion": NaN}',
        b'{"schemaVersion": ' + b"9" * 10_000 + b"}",
        encode([VAE, MODELFILE])[:-1],
        encode([VAE, MODELFILE]) + b"}",
        b" " * (MAX_BYTES + 1),
    ],
)
def test_damaged_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        decode(data)
    assert len(str(caught.value)) < 300


def test_every_cut_is_refused() -> None:
    data = encode([VAE, MODELFILE])
    for length in range(len(data)):
        with pytest.raises(FormatError):
            decode(data[:length])


def test_files(tmp_path: Path) -> None:
    name = parse_name("me/wan:q4")
    with pytest.raises(ModelNotFound, match="model 'me/wan:q4' not found"):
        read(tmp_path, name)
    data = encode([VAE, MODELFILE])
    write(tmp_path, name, data)
    assert (tmp_path / "wanrun.local" / "me" / "wan" / "q4").read_bytes() == data
    assert read(tmp_path, name) == decode(data)
    manifest_path(tmp_path, name).write_bytes(data[:50])
    with pytest.raises(StoreError, match="manifest of me/wan:q4 is damaged"):
        read(tmp_path, name)


def test_foreign_files_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path, parse_name("wan"), encode([VAE, MODELFILE]))
    library = tmp_path / "wanrun.local" / "library"
    for path in (
        tmp_path / ".DS_Store",
        library / "file",
        library / "wan" / ".part-00",
        library / "wan" / "A B",
    ):
        path.write_bytes(b"x")
    (library / "wan" / "folder" / "deep").mkdir(parents=True)
    (library / "UPPER").mkdir()
    (library / "UPPER" / "latest").write_bytes(b"x")
    (library / "link").symlink_to("/etc")
    (library / "loop").symlink_to(tmp_path)
    assert names(tmp_path) == [parse_name("wan")]
    assert names(tmp_path / "none") == []
    assert MANIFEST_TYPE.encode() in manifest_path(tmp_path, parse_name("wan")).read_bytes()
