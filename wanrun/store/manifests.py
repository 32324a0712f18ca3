"""Manifests: which blobs make up a bundle, as OCI image manifests 1.1 that any registry can hold.

A bundle is an artifact (opencontainers/image-spec, manifest.md) of type
``application/vnd.wanrun.bundle.v1+json`` with one layer per component, whose role is an annotation, one per
adapter, with its expert, scale and place in the order, and the Modelfile as one more layer. The bytes hold
nothing but what the bundle is, no time and no machine, so equal bundles have equal digests.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from wanrun.errors import FormatError, InvalidRequest, ModelNotFound, StoreError
from wanrun.modelfile.lexing import MAX_BYTES as MAX_MODELFILE_BYTES
from wanrun.store.digest import Digest
from wanrun.store.durable import store_errors, write_file
from wanrun.store.names import Name
from wanrun.types import EXPERTS, ROLES

MAX_BYTES = 4 << 20
MAX_LAYERS = 64

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
BUNDLE_TYPE = "application/vnd.wanrun.bundle.v1+json"
COMPONENT_TYPE = "application/vnd.wanrun.component.v1"
ADAPTER_TYPE = "application/vnd.wanrun.adapter.v1"
MODELFILE_TYPE = "application/vnd.wanrun.modelfile.v1"
ROLE = "dev.wanrun.role"
SCALE = "dev.wanrun.scale"
ORDER = "dev.wanrun.order"
TITLE = "org.opencontainers.image.title"

#: The configuration that image-spec prescribes for artifacts that have none.
EMPTY_CONFIG = b"{}"
# Separators, control characters, what reverses the direction of text, and halves of surrogate pairs.
_NOT_PLAIN = re.compile(r"[/\\\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
#: As Python writes a number; what it may be, the Modelfile's line says, which has to be the same.
_SCALE = re.compile(r"-?[0-9]{1,3}(\.[0-9]{1,20})?(e-?[0-9]{1,3})?")
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"


@dataclass(frozen=True, slots=True)
class Layer:
    """One blob of a bundle; ``role`` and ``title`` are empty unless it is a component or an adapter.

    An adapter has the role of its expert, or none, and ``scale`` and ``order`` as they are written: numbers.
    """

    media_type: str
    digest: Digest
    size: int
    role: str = ""
    title: str = ""
    scale: str = ""
    order: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A checked manifest; ``digest`` is of its own bytes. Layers of unknown types are kept and not used."""

    digest: Digest
    config: Layer
    layers: tuple[Layer, ...]
    artifact_type: object = BUNDLE_TYPE

    @property
    def components(self) -> dict[str, Layer]:
        """The components by role."""
        return {layer.role: layer for layer in self.layers if layer.media_type == COMPONENT_TYPE}

    @property
    def adapters(self) -> tuple[Layer, ...]:
        """The adapters, in the order in which they are applied."""
        return tuple(layer for layer in self.layers if layer.media_type == ADAPTER_TYPE)

    @property
    def modelfile(self) -> Layer:
        return next(layer for layer in self.layers if layer.media_type == MODELFILE_TYPE)

    @property
    def blobs(self) -> dict[Digest, int]:
        """Sizes in bytes of everything the bundle needs."""
        return {layer.digest: layer.size for layer in (self.config, *self.layers)}


def encode(layers: Iterable[Layer]) -> bytes:
    """The bytes of a bundle's manifest; InvalidRequest for a title that is no plain file name."""
    layers = list(layers)
    for layer in layers:
        if not _is_plain(layer.title):
            raise InvalidRequest(f"{layer.title!r:.300} cannot travel as a file's name: rename the file")
    config = Layer(_EMPTY_TYPE, Digest.of(EMPTY_CONFIG), len(EMPTY_CONFIG))
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": BUNDLE_TYPE,
        "config": _descriptor(config),
        "layers": [_descriptor(layer) for layer in layers],
    }
    return json.dumps(manifest, ensure_ascii=False, indent=2).encode()


def decode(data: bytes) -> Manifest:
    """The bundle's manifest of ``data``; FormatError unless every part that is used is as it must be."""
    manifest = decode_artifact(data)
    if manifest.artifact_type != BUNDLE_TYPE:
        raise FormatError(f"artifactType must be {BUNDLE_TYPE}, not {manifest.artifact_type!r:.100}")
    _check(manifest)
    return manifest


def decode_artifact(data: bytes) -> Manifest:
    """The manifest of any OCI artifact, a bundle or another's; FormatError unless it is sound."""
    if len(data) > MAX_BYTES:
        raise FormatError(f"a manifest of more than {MAX_BYTES >> 20} MiB")
    try:
        found = json.loads(data, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"not a manifest: {error}"[:200]) from error
    if not isinstance(found, dict):
        raise FormatError("not a manifest: no JSON object")
    for key, expected in (("schemaVersion", 2), ("mediaType", MANIFEST_TYPE)):
        if found.get(key) != expected:
            raise FormatError(f"{key} must be {expected}, not {found.get(key)!r:.100}")
    artifact_type = found.get("artifactType")
    layers = found.get("layers")
    if not isinstance(layers, list) or not 0 < len(layers) <= MAX_LAYERS:
        raise FormatError(f"layers must be a list of 1 to {MAX_LAYERS}")
    config = _layer(found.get("config"))
    manifest = Manifest(Digest.of(data), config, tuple(map(_layer, layers)), artifact_type)
    sizes = manifest.blobs
    if any(sizes[layer.digest] != layer.size for layer in (config, *manifest.layers)):
        raise FormatError("one digest with two sizes")
    return manifest


def manifest_path(folder: Path, name: Name) -> Path:
    """Where the manifest of ``name`` lies, whether it is there or not."""
    return folder.joinpath(*name.parts)


def read(folder: Path, name: Name) -> Manifest:
    """The manifest of ``name``; ModelNotFound when there is none, StoreError when it is damaged."""
    return _read(folder, name)[0]


def read_bytes(folder: Path, name: Name) -> bytes:
    """The manifest of ``name`` byte by byte, as registries and archives must have it; raises as ``read``."""
    return _read(folder, name)[1]


def write(folder: Path, name: Name, data: bytes) -> None:
    """Makes ``name`` stand for the manifest ``data``, all of whose blobs must be there."""
    with store_errors(f"cannot write the manifest of {name}"):
        write_file(manifest_path(folder, name), data)


def names(folder: Path) -> list[Name]:
    """Every name that has a manifest, sound or not, sorted. Files that cannot be ours are passed over."""
    return sorted(_walk(folder, ()))


def _read(folder: Path, name: Name) -> tuple[Manifest, bytes]:
    try:
        # Opening a pipe must not wait for a writer.
        descriptor = os.open(manifest_path(folder, name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(MAX_BYTES + 1)
        return decode(data), data
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelNotFound(f"model '{name}' not found: see 'wanrun list'") from error
    except (OSError, FormatError) as error:
        raise StoreError(
            f"the manifest of {name} is damaged ({error}): create the model again or rm it"
        ) from error


def _walk(folder: Path, parts: tuple[str, ...]) -> Iterator[Name]:
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            below = (*parts, entry.name)
            if len(below) < 4 and entry.is_dir(follow_symlinks=False):
                yield from _walk(folder / entry.name, below)
            elif len(below) == 4 and entry.is_file(follow_symlinks=False):
                with suppress(InvalidRequest):
                    yield Name(*below)


def _descriptor(layer: Layer) -> dict[str, Any]:
    every = ((ROLE, layer.role), (TITLE, layer.title), (SCALE, layer.scale), (ORDER, layer.order))
    notes = {key: value for key, value in every if value}
    descriptor = {"mediaType": layer.media_type, "digest": str(layer.digest), "size": layer.size}
    return descriptor | ({"annotations": notes} if notes else {})


def _layer(found: object) -> Layer:
    if not isinstance(found, dict):
        raise FormatError("a descriptor must be a JSON object")
    media_type, size, notes = found.get("mediaType"), found.get("size"), found.get("annotations", {})
    if not isinstance(media_type, str):
        raise FormatError("a descriptor without a mediaType")
    if type(size) is not int or not 0 <= size < 1 << 53:
        raise FormatError(f"a descriptor's size must be a number of bytes, not {size!r:.100}")
    if not isinstance(notes, dict) or not all(isinstance(text, str) for text in notes.values()):
        raise FormatError("annotations must be texts")
    if found.get("urls"):
        raise FormatError("a layer that lies elsewhere (urls)")
    try:
        digest = Digest.parse(found.get("digest"))
    except InvalidRequest as error:
        raise FormatError(str(error)) from error
    texts = (notes.get(key, "") for key in (ROLE, TITLE, SCALE, ORDER))
    return Layer(media_type, digest, size, *texts)


def _check(manifest: Manifest) -> None:
    roles = [layer.role for layer in manifest.layers if layer.media_type == COMPONENT_TYPE]
    strange = [role for role in roles if role not in ROLES]
    if strange or len(set(roles)) != len(roles):
        raise FormatError(f"components must have one role each of {', '.join(ROLES)}, not {roles!r:.200}")
    for index, layer in enumerate(manifest.adapters):
        if layer.role not in ("", *EXPERTS[1:]) or not _SCALE.fullmatch(layer.scale):
            raise FormatError(f"an adapter for {layer.role!r:.60} with scale {layer.scale!r:.60}")
        if layer.order != str(index):
            raise FormatError(f"adapter {index} says that it is number {layer.order!r:.60}")
    digests = [layer.digest for layer in manifest.adapters]
    if len(set(digests)) != len(digests):
        raise FormatError("an adapter is there twice")
    files = [layer for layer in manifest.layers if layer.media_type == MODELFILE_TYPE]
    if len(files) != 1 or files[0].size > MAX_MODELFILE_BYTES:
        raise FormatError("there must be one Modelfile of at most 1 MiB")
    paths = [layer.title for layer in manifest.layers if not _is_plain(layer.title)]
    if paths:
        raise FormatError(f"a title must be a plain file name, not {paths[0]!r:.100}")


def _is_plain(title: str) -> bool:
    """Whether ``title`` is empty or could name one file in a folder, on every system, and be printed."""
    return title not in (".", "..") and not _NOT_PLAIN.search(title) and len(title) <= 255


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")
