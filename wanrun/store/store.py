"""The local store of bundles below ``$WANRUN_HOME``: list, get, copy, remove.

It keeps these promises through crashes and other processes: a name that is listed has all its blobs; a blob's
name is the digest of its bytes; an interrupted operation leaves the old state or the new one and can be
repeated; nothing is deleted that a listed name or a running operation needs. Blobs are written before the
manifest that names them, and a manifest is removed before its blobs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from wanrun import settings
from wanrun.errors import ModelfileError, ModelNotFound, StoreError
from wanrun.modelfile import grammar
from wanrun.modelfile.document import Modelfile
from wanrun.store import garbage, lock, manifests
from wanrun.store.blobs import blob_path, has_blob, read_blob
from wanrun.store.digest import Digest
from wanrun.store.durable import store_errors, sync_folder
from wanrun.store.manifests import Layer, Manifest
from wanrun.store.names import Name, parse_name
from wanrun.types import Adapter, Bundle, Component


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the list: digest of the manifest, size in bytes, time of change in seconds since 1970."""

    name: Name
    digest: Digest
    size: int
    modified: float


@dataclass(frozen=True, slots=True)
class Store:
    """The bundles below ``home``; holds nothing in memory."""

    home: Path

    @property
    def blobs(self) -> Path:
        return self.home / "blobs"

    @property
    def manifests(self) -> Path:
        return self.home / "manifests"

    def list(self) -> tuple[Entry, ...]:
        """Every sound bundle, sorted by name."""
        return tuple(entry for entry in self._entries() if isinstance(entry, Entry))

    def damaged(self) -> tuple[str, ...]:
        """What is wrong with each bundle that ``list`` leaves out, for people."""
        return tuple(entry for entry in self._entries() if isinstance(entry, str))

    def manifest(self, name: str | Name) -> Manifest:
        """The manifest of ``name``, all of whose blobs are there; ModelNotFound or StoreError otherwise."""
        name = _named(name)
        while True:
            manifest = manifests.read(self.manifests, name)
            missing = self._missing(manifest)
            if missing is None:
                return manifest
            # It may have been removed or replaced since it was read: then this raises, or there is a new one.
            again = manifests.read(self.manifests, name)
            if again.digest == manifest.digest and self._missing(again) is not None:
                raise StoreError(
                    f"{name} is damaged: blob {missing} is missing or cut; create it again or rm it"
                )

    def modelfile(self, name: str | Name) -> Modelfile:
        """The settings of ``name``; its components are named by digest."""
        name = _named(name)
        layer = self.manifest(name).modelfile
        data = read_blob(self.blobs, layer.digest, layer.size)
        try:
            if data is not None:
                return grammar.parse(data)
        except ModelfileError as error:
            raise StoreError(f"the Modelfile of {name} is damaged: {error}") from error
        raise StoreError(f"{name} is damaged: blob {layer.digest} has changed; create it again or rm it")

    def get(self, name: str | Name) -> Bundle:
        """The bundle ``name``. Hold the store while its files are in use, or a removal may delete them."""
        name = _named(name)
        modelfile = self.modelfile(name)
        manifest = self.manifest(name)
        components = {role: self._component(role, layer) for role, layer in manifest.components.items()}
        return Bundle(
            str(name),
            components,
            dict(modelfile.parameters),
            "{{ prompt }}" if modelfile.template is None else modelfile.template,
            modelfile.negative or "",
            modelfile.system or "",
            modelfile.licenses,
            tuple(
                Adapter(layer.role, float(layer.scale), self._component("adapter", layer))
                for layer in manifest.adapters
            ),
        )

    def copy(self, source: str | Name, target: str | Name) -> None:
        """Gives the bundle ``source`` a second name; what ``target`` stood for before is let go."""
        target = _named(target)
        with self.hold():
            source = _named(source)
            self.manifest(source)
            manifests.write(self.manifests, target, manifests.read_bytes(self.manifests, source))
        garbage.sweep(self.home)

    def remove(self, name: str | Name) -> None:
        """Forgets ``name`` and frees what only it needed; works on a damaged bundle as well."""
        path = manifests.manifest_path(self.manifests, _named(name))
        with store_errors(f"cannot remove {name}"):
            try:
                path.unlink()
            except (FileNotFoundError, NotADirectoryError) as error:
                raise ModelNotFound(f"model '{name}' not found: see 'wanrun list'") from error
            sync_folder(path.parent)
        garbage.sweep(self.home)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """While this is held, by any process, no blob is deleted."""
        with lock.shared(self.home):
            yield

    def _component(self, role: str, layer: Layer) -> Component:
        path = blob_path(self.blobs, layer.digest)
        return Component(role, path, str(layer.digest), layer.size, layer.title)

    def _missing(self, manifest: Manifest) -> Digest | None:
        blobs = manifest.blobs.items()
        return next((digest for digest, size in blobs if not has_blob(self.blobs, digest, size)), None)

    def _entries(self) -> Iterator[Entry | str]:
        for name in manifests.names(self.manifests):
            try:
                manifest = self.manifest(name)
                modified = manifests.manifest_path(self.manifests, name).stat().st_mtime
            except ModelNotFound:
                continue  # removed since it was found
            except (StoreError, OSError) as error:
                yield str(error)
            else:
                yield Entry(name, manifest.digest, sum(manifest.blobs.values()), modified)


def open_store() -> Store:
    """The store of this user, ``$WANRUN_HOME``."""
    return Store(settings.home())


def _named(name: str | Name) -> Name:
    return parse_name(name) if isinstance(name, str) else name
