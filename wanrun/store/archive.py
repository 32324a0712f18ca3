"""Bundles in a file: an OCI image layout in a tar, for people without a registry or a network.

The layout is opencontainers/image-spec, image-layout.md; ``skopeo`` and ``podman`` call such a file
``oci-archive``. The same bundle under the same name always makes the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from wanrun.errors import FormatError, InvalidRequest, StoreError
from wanrun.store import garbage, manifests, tar
from wanrun.store.admission import examine
from wanrun.store.blobs import blob_path, has_blob, opened
from wanrun.store.digest import Digest
from wanrun.store.durable import publish, store_errors, temporary, write_all
from wanrun.store.manifests import MANIFEST_TYPE, Manifest
from wanrun.store.names import Name, parse_name
from wanrun.store.store import Store
from wanrun.types import Progress

_LAYOUT = b'{"imageLayoutVersion": "1.0.0"}'
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_NAME = "org.opencontainers.image.ref.name"
_MAX_BUNDLES = 64
_CHUNK = 1 << 20
_BLOB = re.compile(r"blobs/sha256/([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class _Item:
    """A bundle of an archive: the name written beside it, its manifest, and the manifest's bytes."""

    reference: str
    manifest: Manifest
    data: bytes


def export_archive(store: Store, name: Name, path: Path, progress: Progress) -> None:
    """Writes the bundle ``name`` to ``path``, which holds the old file or the whole new one at any time.

    Every blob is hashed on the way. Raises ModelNotFound, StoreError for a damaged bundle or a full disk, and
    InvalidRequest when ``path`` cannot be such a file.
    """
    if not path.parent.is_dir():
        raise InvalidRequest(f"no such folder: {path.parent}")
    if path.exists() and not path.is_file():
        raise InvalidRequest(f"{path} is not a regular file")
    with store.hold(), store_errors(f"cannot write {path}"):
        store.manifest(name)
        data = manifests.read_bytes(store.manifests, name)
        manifest = manifests.decode(data)
        with temporary(path.parent) as (descriptor, part):
            _write(descriptor, "oci-layout", _LAYOUT)
            _write(descriptor, "index.json", _index(name, data))
            _write(descriptor, f"blobs/sha256/{manifest.digest.hex}", data)
            done, total = 0, sum(manifest.blobs.values())
            for digest, size in sorted(manifest.blobs.items()):
                _write_blob(descriptor, store, digest, size)
                done += size
                progress("exporting", done, total)
            write_all(descriptor, tar.END)
            publish(descriptor, part, path)


def import_archive(store: Store, path: Path, name: Name | None, progress: Progress) -> list[Name]:
    """Brings the bundles of an archive into the store and returns their names.

    ``name`` replaces the name in an archive of one bundle. Every digest, size, role and header is checked
    before a name is given. Raises ModelNotFound, InvalidRequest, FormatError and StoreError, after which
    nothing of the archive is left.
    """
    with opened(path) as descriptor, open(descriptor, "rb", closefd=False) as file:
        try:
            with store.hold(), store_errors(f"cannot read {path}"):
                listed = _members(file)
                items = _items(file, listed)
                named = _names(items, name, path)
                _import(store, file, listed, items, progress)
                for item in items:
                    examine(store, item.data)
                for one, item in zip(named, items, strict=True):
                    manifests.write(store.manifests, one, item.data)
        except (FormatError, InvalidRequest) as error:
            raise type(error)(f"{path}: {error}") from error
        finally:
            garbage.sweep(store.home)
    return named


def _write(descriptor: int, name: str, data: bytes) -> None:
    write_all(descriptor, tar.header(name, len(data)) + data + tar.padding(len(data)))


def _index(name: Name, data: bytes) -> bytes:
    descriptor = {
        "mediaType": MANIFEST_TYPE,
        "artifactType": manifests.BUNDLE_TYPE,
        "digest": str(Digest.of(data)),
        "size": len(data),
        "annotations": {_NAME: str(name)},
    }
    index = {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": [descriptor]}
    return json.dumps(index, indent=2).encode()


def _write_blob(descriptor: int, store: Store, digest: Digest, size: int) -> None:
    write_all(descriptor, tar.header(f"blobs/sha256/{digest.hex}", size))
    sha256, done = hashlib.sha256(), 0
    with blob_path(store.blobs, digest).open("rb") as file:
        while chunk := file.read(_CHUNK):
            sha256.update(chunk)
            write_all(descriptor, chunk)
            done += len(chunk)
    if (sha256.hexdigest(), done) != (digest.hex, size):
        raise StoreError(f"blob {digest} has changed; see 'wanrun verify'")
    write_all(descriptor, tar.padding(size))


def _members(file: BinaryIO) -> dict[str, tar.Member]:
    """The archive's files by name. Names become no paths; those that a layout does not have are refused."""
    found: dict[str, tar.Member] = {}
    for member in tar.members(file, os.fstat(file.fileno()).st_size):
        if member.name in found:
            raise FormatError(f"{member.name!r:.100} is there twice")
        if member.name not in ("oci-layout", "index.json") and not _BLOB.fullmatch(member.name):
            raise FormatError(f"{member.name!r:.100} has no place in an OCI image layout")
        found[member.name] = member
    return found


def _items(file: BinaryIO, listed: Mapping[str, tar.Member]) -> list[_Item]:
    if _json(_small(file, listed, "oci-layout")).get("imageLayoutVersion") != "1.0.0":
        raise FormatError("oci-layout does not say version 1.0.0")
    found = _json(_small(file, listed, "index.json")).get("manifests")
    if not isinstance(found, list) or not 0 < len(found) <= _MAX_BUNDLES:
        raise FormatError(f"index.json must list 1 to {_MAX_BUNDLES} manifests")
    return [_item(file, listed, entry) for entry in found]


def _item(file: BinaryIO, listed: Mapping[str, tar.Member], entry: object) -> _Item:
    if not isinstance(entry, dict) or entry.get("mediaType") != MANIFEST_TYPE:
        raise FormatError(f"index.json lists something that is no manifest of an artifact: {entry!r:.200}")
    try:
        digest = Digest.parse(entry.get("digest"))
    except InvalidRequest as error:
        raise FormatError(str(error)) from error
    data = _small(file, listed, f"blobs/sha256/{digest.hex}")
    if Digest.of(data) != digest or entry.get("size") != len(data):
        raise FormatError(f"the manifest {digest} is not what index.json says")
    notes = entry.get("annotations")
    reference = notes.get(_NAME) if isinstance(notes, dict) else None
    return _Item(reference if isinstance(reference, str) else "", manifests.decode(data), data)


def _names(items: list[_Item], name: Name | None, path: Path) -> list[Name]:
    if name is not None and len(items) > 1:
        raise InvalidRequest(f"one name for {len(items)} bundles: leave it out to take the archive's own")
    if name is not None:
        return [name]
    for item in items:
        # What others write here is often a tag alone.
        if not re.search("[:/]", item.reference):
            raise InvalidRequest(f"the archive does not say a name ({item.reference!r:.100}): give one")
    named = [parse_name(item.reference) for item in items]
    if len(set(named)) != len(named):
        raise FormatError("two bundles of one name")
    return named


def _import(
    store: Store, file: BinaryIO, listed: Mapping[str, tar.Member], items: list[_Item], progress: Progress
) -> None:
    wanted: dict[Digest, int] = {}
    for item in items:
        for digest, size in item.manifest.blobs.items():
            member = listed.get(f"blobs/sha256/{digest.hex}")
            if member is None and not has_blob(store.blobs, digest, size):
                raise FormatError(f"blob {digest} is missing")
            if (member is not None and member.size != size) or wanted.setdefault(digest, size) != size:
                raise FormatError(f"blob {digest} does not have the {size} bytes that its manifest says")
    done, total = 0, sum(wanted.values())
    for digest, size in wanted.items():
        if not has_blob(store.blobs, digest, size):
            for written in _copy(store, file, listed[f"blobs/sha256/{digest.hex}"], digest):
                progress("importing", done + written, total)
        done += size
        progress("importing", done, total)


def _copy(store: Store, file: BinaryIO, member: tar.Member, digest: Digest) -> Iterator[int]:
    """Yields how many bytes are written; the blob is there after the last."""
    sha256, done = hashlib.sha256(), 0
    file.seek(member.offset)
    with store_errors(f"cannot write to {store.blobs}"), temporary(store.blobs) as (target, part):
        while chunk := file.read(min(_CHUNK, member.size - done)):
            sha256.update(chunk)
            write_all(target, chunk)
            done += len(chunk)
            yield done
        if (sha256.hexdigest(), done) != (digest.hex, member.size):
            raise FormatError(f"blob {digest} has other bytes")
        os.fchmod(target, 0o444)
        publish(target, part, blob_path(store.blobs, digest))


def _small(file: BinaryIO, listed: Mapping[str, tar.Member], name: str) -> bytes:
    member = listed.get(name)
    if member is None:
        raise FormatError(f"{name} is missing: not an OCI image layout")
    if member.size > manifests.MAX_BYTES:
        raise FormatError(f"{name} has {member.size} bytes: at most {manifests.MAX_BYTES} are allowed")
    file.seek(member.offset)
    return file.read(member.size)


def _json(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"not JSON: {error}"[:200]) from error
    if not isinstance(found, dict):
        raise FormatError("not a JSON object")
    return found
