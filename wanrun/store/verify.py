"""Reads every byte of bundles again and says which are no longer what they were."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from wanrun.errors import StoreError
from wanrun.modelfile import library
from wanrun.store import manifests
from wanrun.store.blobs import absolve, blob_path, condemn
from wanrun.store.digest import Digest
from wanrun.store.manifests import Manifest
from wanrun.store.names import DEFAULT_HOST, Name
from wanrun.store.store import Store
from wanrun.types import Progress

_CHUNK = 1 << 22


@dataclass(frozen=True, slots=True)
class Finding:
    """Something damaged: what, how, which bundle needs it, and the command that mends it."""

    name: Name
    what: str
    reason: str
    repair: str


@dataclass(frozen=True, slots=True)
class Report:
    """What was read: numbers of bundles, files and bytes, and everything that is damaged."""

    bundles: int
    files: int
    size: int
    findings: tuple[Finding, ...]


def verify(store: Store, names: Iterable[Name], progress: Progress) -> Report:
    """Hashes the blobs of the bundles ``names``, each once.

    A damaged blob stays where it is and counts as missing from then on, so that nothing runs with it and
    making one of its bundles again replaces it. Raises ModelNotFound for a name that is not in the store.
    """
    findings: list[Finding] = []
    checked: dict[Digest, str] = {}
    names, read = list(names), 0
    with store.hold():
        for name in names:
            try:
                manifest = manifests.read(store.manifests, name)
            except StoreError as error:
                findings.append(Finding(name, "manifest", str(error), repair(name)))
                continue
            for digest, (size, title) in _files(manifest).items():
                if digest not in checked:
                    checked[digest] = _examine(store.blobs, digest, size, _counted(progress, title))
                    read += size
                if checked[digest]:
                    findings.append(Finding(name, f"{title} ({digest})", checked[digest], repair(name)))
    return Report(len(names), len(checked), read, tuple(findings))


def repair(name: Name) -> str:
    """The command that makes the bundle ``name`` anew."""
    ours = name.host == DEFAULT_HOST
    if not ours or library.find(name.model, name.tag) is not None:
        return f"wanrun pull {name}"
    return f"wanrun create {name} -f MODELFILE"


def _files(manifest: Manifest) -> dict[Digest, tuple[int, str]]:
    layers = (manifest.config, *manifest.layers)
    return {layer.digest: (layer.size, layer.title or "configuration") for layer in layers}


def _counted(progress: Progress, title: str) -> Progress:
    return lambda phase, done, total: progress(f"verifying {title}", done, total)


def _examine(folder: Path, digest: Digest, size: int, progress: Progress) -> str:
    """What is wrong with a blob, empty when it is as it must be."""
    try:
        descriptor = os.open(blob_path(folder, digest), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except PermissionError:
        return "it was found damaged before"
    except OSError as error:
        return "it is missing" if isinstance(error, FileNotFoundError) else f"it cannot be read: {error}"
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return "it is not a file"
        if status.st_size != size:
            condemn(descriptor)
            return f"it has {status.st_size} bytes instead of {size}"
        try:
            found = _hash(descriptor, size, progress)
        except OSError as error:
            return f"it cannot be read: {error.strerror}"
        if found != digest:
            condemn(descriptor)
            return "its bytes have changed"
        if not status.st_mode & stat.S_IRUSR:
            absolve(descriptor)
        return ""
    finally:
        os.close(descriptor)


def _hash(descriptor: int, size: int, progress: Progress) -> Digest:
    sha256, done = hashlib.sha256(), 0
    while chunk := os.read(descriptor, _CHUNK):
        sha256.update(chunk)
        done += len(chunk)
        progress("verifying", done, size)
    return Digest(sha256.hexdigest())
