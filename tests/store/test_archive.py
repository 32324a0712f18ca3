"""Bundles in a file: the round trip, and archives made to do harm."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.modelfile.files import MODELFILE
from tests.store import invariants
from tests.store.faults import Faults
from wanrun.errors import FormatError, InvalidRequest, ModelNotFound, StoreError, WanrunError
from wanrun.modelfile.grammar import parse
from wanrun.store.archive import export_archive, import_archive
from wanrun.store.creation import create, quiet
from wanrun.store.names import Name, parse_name
from wanrun.store.store import Store

WAN = parse_name("wan")
Files = dict[str, bytes]


@pytest.fixture
def archive(store: Store, parts: Path, tmp_path: Path) -> Path:
    create(store, WAN, parse(MODELFILE), parts)
    export_archive(store, WAN, tmp_path / "wan.tar", quiet)
    return tmp_path / "wan.tar"


@pytest.fixture
def his(store: Store) -> Store:
    """Another's store."""
    return Store(store.home.parent / "his")


def test_round_trip(store: Store, his: Store, archive: Path, tmp_path: Path) -> None:
    phases: list[tuple[str, int, int]] = []
    assert import_archive(his, archive, None, lambda *step: phases.append(step)) == [WAN]
    total = sum(store.manifest(WAN).blobs.values())
    assert phases[-1] == ("importing", total, total)
    assert [done for _, done, _ in phases] == sorted(done for _, done, _ in phases)
    assert his.manifest(WAN) == store.manifest(WAN)
    assert his.get(WAN).licenses == store.get(WAN).licenses
    invariants.hold(his)
    assert invariants.leftovers(his) == []
    assert not stat.S_IMODE(his.get(WAN).components["vae"].path.stat().st_mode) & 0o222
    assert import_archive(his, archive, parse_name("ghcr.io/me/other:q4"), quiet)
    assert [str(entry.name) for entry in his.list()] == ["ghcr.io/me/other:q4", "wan:latest"]
    export_archive(his, WAN, tmp_path / "again.tar", quiet)
    assert (tmp_path / "again.tar").read_bytes() == archive.read_bytes()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_it_is_an_oci_image_layout(store: Store, archive: Path) -> None:
    """File by file against opencontainers/image-spec, image-layout.md, read by Python's tarfile."""
    files = unpacked(archive)
    assert json.loads(files.pop("oci-layout")) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads(files.pop("index.json"))
    (entry,) = index.pop("manifests")
    assert index == {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json"}
    assert entry["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert entry["annotations"] == {"org.opencontainers.image.ref.name": "wan:latest"}
    assert entry["digest"] == str(store.manifest(WAN).digest)
    assert entry["size"] == len(files[f"blobs/sha256/{entry['digest'][7:]}"])
    assert len(files) == 1 + len(store.manifest(WAN).blobs)
    for name, data in files.items():
        assert name == "blobs/sha256/" + hashlib.sha256(data).hexdigest()


def unpacked(path: Path) -> Files:
    with tarfile.open(path) as found:
        return {info.name: found.extractfile(info).read() for info in found.getmembers()}  # type: ignore[union-attr]


def packed(path: Path, files: Mapping[str, bytes], *extra: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as written:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            written.addfile(info, io.BytesIO(data))
        for info in extra:
            written.addfile(info, io.BytesIO(bytes(info.size)))
    return path


def snapshot(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def refused(
    store: Store, path: Path, kind: type[WanrunError], problem: str, name: Name | None = None
) -> None:
    """Nothing may be left, inside the store or beside it."""
    before = snapshot(path.parent)
    with pytest.raises(kind, match=problem) as caught:
        import_archive(store, path, name, quiet)
    assert len(str(caught.value)) < 1500
    assert snapshot(path.parent) == before
    assert store.list() == ()
    assert store.damaged() == ()
    assert not [file for file in store.home.rglob("*") if file.is_file() and file.name != "lock"]


@pytest.mark.parametrize(
    "name",
    [
        "../canary",
        "/tmp/canary",
        "blobs/sha256/../../../canary",
        "blobs/sha256/" + "0" * 63,
        "a",
        ".",
        "",
        "blobs/sha256/" + "A" * 64,
        "blobs/sha512/" + "0" * 128,
        "blobs\\sha256\\" + "0" * 64,
        "oci-layout\n",
        "blobs/sha256/" + "0" * 64 + "/x",
        "././oci-layout",
        "OCI-LAYOUT",
        "c:/x",
        "blobs//sha256/" + "0" * 64,
    ],
)
def test_names_that_have_no_place(his: Store, archive: Path, tmp_path: Path, name: str) -> None:
    bad = packed(tmp_path / "bad.tar", {**unpacked(archive), name: b"x"})
    refused(his, bad, FormatError, "has no place|not a tar|there twice|is missing")


def test_kinds_of_members(his: Store, archive: Path, tmp_path: Path) -> None:
    blob = "blobs/sha256/" + "0" * 64
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        info = tarfile.TarInfo(blob)
        info.type, info.linkname = kind, "/etc/passwd"
        refused(his, packed(tmp_path / "bad.tar", unpacked(archive), info), FormatError, "no regular file")


def test_twice(his: Store, archive: Path, tmp_path: Path) -> None:
    for name in ("index.json", "./index.json", "oci-layout"):
        bad = packed(tmp_path / "bad.tar", unpacked(archive), tarfile.TarInfo(name))
        refused(his, bad, FormatError, "is there twice")


def test_order_and_company_do_not_matter(his: Store, archive: Path, tmp_path: Path) -> None:
    """What other tools write: blobs first, folders, ``./``, and blobs of other images."""
    files = dict(reversed(unpacked(archive).items()))
    folder = tarfile.TarInfo("./blobs/sha256")
    folder.type = tarfile.DIRTYPE
    stranger = {"blobs/sha256/" + "0" * 64: b"not even its digest"}
    path = packed(
        tmp_path / "o.tar", {**{f"./{name}": data for name, data in files.items()}, **stranger}, folder
    )
    assert import_archive(his, path, None, quiet) == [WAN]
    invariants.hold(his)
    assert invariants.leftovers(his) == []


def index_of(files: Files, change: Callable[[Any], object]) -> Files:
    index = json.loads(files["index.json"])
    change(index)
    return {**files, "index.json": json.dumps(index).encode()}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda i: i["manifests"][0].update(digest="sha256:../../canary"), "not a sha256 digest"),
        (lambda i: i["manifests"][0].update(digest="sha256:" + "0" * 64), "is missing"),
        (lambda i: i["manifests"][0].update(size=1), "not what index.json says"),
        (
            lambda i: i["manifests"][0].update(mediaType="application/vnd.oci.image.index.v1+json"),
            "no manifest",
        ),
        (lambda i: i["manifests"].append(7), "no manifest"),
        (lambda i: i.update(manifests=[]), "1 to 64"),
        (lambda i: i.update(manifests=i["manifests"] * 65), "1 to 64"),
        (lambda i: i.update(manifests=i["manifests"] * 2), "two bundles of one name"),
        (lambda i: i.update(manifests=None), "1 to 64"),
        (lambda i: i["manifests"][0].pop("annotations"), "does not say a name"),
        (
            lambda i: i["manifests"][0].update(annotations={"org.opencontainers.image.ref.name": "q4"}),
            "a name",
        ),
        (
            lambda i: i["manifests"][0].update(
                annotations={"org.opencontainers.image.ref.name": "../../x:y"}
            ),
            "invalid model name",
        ),
        (lambda i: i["manifests"][0].update(annotations=[]), "does not say a name"),
    ],
)
def test_indexes(
    his: Store, archive: Path, tmp_path: Path, change: Callable[[Any], object], problem: str
) -> None:
    bad = packed(tmp_path / "bad.tar", index_of(unpacked(archive), change))
    refused(his, bad, WanrunError, problem)


def test_contents(his: Store, archive: Path, tmp_path: Path) -> None:
    files = unpacked(archive)
    manifest = json.loads(files["index.json"])["manifests"][0]["digest"][7:]
    blob = json.loads(files[f"blobs/sha256/{manifest}"])["layers"][0]["digest"][7:]
    path, data = f"blobs/sha256/{blob}", files[f"blobs/sha256/{blob}"]
    cases: list[tuple[Files, str]] = [
        ({**files, path: bytes([*data[:-1], data[-1] ^ 1])}, "has other bytes"),
        ({**files, path: data + b"x"}, "does not have the"),
        ({**files, path: data[:-1]}, "does not have the"),
        ({name: body for name, body in files.items() if name != path}, "is missing"),
        ({**files, f"blobs/sha256/{manifest}": b"{}"}, "not what index.json says"),
        ({name: body for name, body in files.items() if name != "oci-layout"}, "oci-layout is missing"),
        ({**files, "oci-layout": b'{"imageLayoutVersion": "2.0.0"}'}, "version 1.0.0"),
        ({**files, "index.json": b"[" * 100_000}, "not JSON"),
        ({**files, "index.json": b"\xff"}, "not JSON"),
        ({**files, "index.json": b"7"}, "not a JSON object"),
        ({**files, "index.json": b" " * (5 << 20)}, "at most"),
        ({}, "oci-layout is missing"),
    ]
    for bad, problem in cases:
        refused(his, packed(tmp_path / "bad.tar", bad), FormatError, problem)
    refused(his, packed(tmp_path / "bad.tar", cases[0][0]), FormatError, "other bytes", WAN)


def test_files_that_make_no_model(his: Store, archive: Path, tmp_path: Path) -> None:
    """Sound digests, and a pickle for a VAE."""
    files = unpacked(archive)
    new, pickle = dict(files), b"\x80\x04pickle"
    manifest = json.loads(
        files["blobs/sha256/" + json.loads(files["index.json"])["manifests"][0]["digest"][7:]]
    )
    vae = next(
        one for one in manifest["layers"] if one.get("annotations", {}).get("dev.wanrun.role") == "vae"
    )
    last, old = manifest["layers"][-1], vae["digest"]
    vae.update(digest=add(new, pickle), size=len(pickle))
    settings = files["blobs/sha256/" + last["digest"][7:]].replace(old.encode(), vae["digest"].encode())
    last.update(digest=add(new, settings), size=len(settings))
    data = json.dumps(manifest).encode()
    digest = add(new, data)
    new = index_of(new, lambda index: index["manifests"][0].update(digest=digest, size=len(data)))
    refused(his, packed(tmp_path / "bad.tar", new), InvalidRequest, "vae: .*pickled checkpoint")


def add(files: Files, data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    files[f"blobs/sha256/{digest}"] = data
    return f"sha256:{digest}"


def test_every_cut_is_refused(his: Store, archive: Path, tmp_path: Path) -> None:
    """At the ends of blocks and between them; only the empty blocks at the end may be missing."""
    data = archive.read_bytes()
    cut = tmp_path / "cut" / "cut.tar"
    cut.parent.mkdir()
    for length in [*range(0, 4096, 256), *range(4096, len(data) - 2048, len(data) // 20)]:
        cut.write_bytes(data[:length])
        refused(his, cut, FormatError, ".")


def test_several_bundles(store: Store, his: Store, archive: Path, tmp_path: Path) -> None:
    """One archive of two; one name cannot be for both."""
    create(store, "other", parse("FROM wan\nPARAMETER steps 3"), tmp_path)
    export_archive(store, parse_name("other"), tmp_path / "other.tar", quiet)
    files, other = unpacked(archive), unpacked(tmp_path / "other.tar")
    entries = json.loads(other["index.json"])["manifests"]
    both = index_of({**other, **files}, lambda index: index["manifests"].extend(entries))
    path = packed(tmp_path / "both.tar", both)
    refused(his, path, InvalidRequest, "one name for 2 bundles", parse_name("x"))
    assert import_archive(his, path, None, quiet) == [WAN, parse_name("other")]
    assert his.get("other").parameters["steps"] == 3
    invariants.hold(his)


def test_what_is_no_archive(his: Store, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello" * 200)
    os.mkfifo(tmp_path / "pipe")
    for path, kind, problem in (
        (tmp_path / "none", ModelNotFound, "no such file"),
        (tmp_path / "text", FormatError, "not a tar archive"),
        (tmp_path / "pipe", InvalidRequest, "not a regular file"),
        (tmp_path, InvalidRequest, "not a regular file|cannot be read"),
        (Path("/dev/zero"), InvalidRequest, "not a regular file"),
    ):
        with pytest.raises(kind, match=problem):
            import_archive(his, path, None, quiet)


def test_where_an_export_may_go(store: Store, archive: Path, tmp_path: Path) -> None:
    old = archive.read_bytes()
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/null"), tmp_path / "no" / "folder.tar"):
        with pytest.raises(InvalidRequest, match=r"not a regular file|no such folder"):
            export_archive(store, WAN, path, quiet)
    with pytest.raises(ModelNotFound):
        export_archive(store, parse_name("none"), archive, quiet)
    blob = store.get(WAN).components["vae"].path
    blob.chmod(0o644)
    with blob.open("r+b") as file:
        file.write(b"\xff")
    with pytest.raises(StoreError, match="has changed"):
        export_archive(store, WAN, archive, quiet)
    assert archive.read_bytes() == old
    assert not (tmp_path / "no").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_full_disk(store: Store, his: Store, archive: Path) -> None:
    """Each call that changes a file fails in turn: an error that says so, and nothing half-done."""
    count = Faults()
    with count.active():
        import_archive(Store(his.home.parent / "count"), archive, None, quiet)
    failed = 0
    for turn in range(1, count.count + 1, 3):
        faults = Faults(fail_at=turn)
        with faults.active():
            try:
                import_archive(his, archive, None, quiet)
            except StoreError as error:
                assert "No space left" in str(error)
                failed += 1
        invariants.hold(his)
        for entry in his.list():
            his.remove(entry.name)
    assert failed > count.count // 6
    assert import_archive(his, archive, None, quiet) == [WAN]
    assert his.manifest(WAN) == store.manifest(WAN)
