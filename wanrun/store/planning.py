"""Says what a pull would take: bytes of each file, what is there already, whether disk and memory suffice."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from wanrun.errors import StoreError
from wanrun.modelfile.spec import AdapterPart, Part, Spec
from wanrun.sources import http, hub, parts
from wanrun.sources.oci.client import Client
from wanrun.sources.oci.pulling import get_manifest
from wanrun.sources.oci.repository import of_name
from wanrun.sources.reference import locate
from wanrun.sources.remote import Remote
from wanrun.store import manifests
from wanrun.store.blobs import has_blob
from wanrun.store.creation import describe_shipped
from wanrun.store.digest import Digest
from wanrun.store.manifests import ADAPTER_TYPE, Manifest
from wanrun.store.names import DEFAULT_HOST, Name, parse_name
from wanrun.store.repositories import choose, completed, model_of_name, parse_repository
from wanrun.store.store import Store
from wanrun.types import ROLES


@dataclass(frozen=True, slots=True)
class Item:
    """A file of a bundle: its ``size`` in bytes, None where nobody says, and how many are ``here``.

    ``digest`` is known of what lies on another machine that tells it.
    """

    role: str
    title: str
    size: int | None
    here: int
    digest: Digest | None = None

    @property
    def missing(self) -> int:
        return max(0, (self.size or 0) - self.here)


@dataclass(frozen=True, slots=True)
class Plan:
    """What pulling ``name`` takes; ``free`` and ``memory`` are bytes that this machine has."""

    name: Name
    items: tuple[Item, ...]
    free: int
    memory: int
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        return sum(item.size or 0 for item in self.items)

    @property
    def missing(self) -> int:
        return sum(item.missing for item in self.items)

    @property
    def largest(self) -> int:
        """Bytes of the file that needs the most memory: one is loaded at a time."""
        return max((item.size or 0 for item in self.items), default=0)


def plan(store: Store, text: str) -> Plan:
    """What ``pull`` of ``text`` would download. Asks the Hub or the registry, downloads no file.

    Raises InvalidRequest, ModelNotFound and DownloadError as ``pull`` does.
    """
    repository = parse_repository(text)
    if repository is not None:
        listing = hub.files(repository.repo, repository.revision)
        lines = choose(repository, [file.path for file in listing.files], listing.commit)
        model = model_of_name(repository.repo)
        notes = () if model else ("the text encoder and the VAE depend on the model, and come on top of it",)
        return plan_spec(store, repository.name, completed(lines, model), notes)
    name = parse_name(text)
    if name.host != DEFAULT_HOST:
        return plan_manifest(store, name, registry_manifest(name))
    return plan_spec(store, name, describe_shipped(name))


def plan_spec(store: Store, name: Name, spec: Spec, notes: tuple[str, ...] = ()) -> Plan:
    """What making ``spec`` the bundle ``name`` would download."""
    items = [_item(store, role, spec.components[role]) for role in ROLES if role in spec.components]
    items += [_item(store, "adapter", adapter) for adapter in spec.adapters]
    return Plan(name, tuple(items), free_bytes(store.home), memory_bytes(), notes)


def plan_manifest(store: Store, name: Name, manifest: Manifest) -> Plan:
    """What bringing a registry's bundle here would download."""
    items = []
    for layer in manifest.layers:
        remote = Remote("", layer.size, layer.digest)
        role = "adapter" if layer.media_type == ADAPTER_TYPE else layer.role
        items.append(Item(role, layer.title or "-", layer.size, _here(store, remote), layer.digest))
    return Plan(name, tuple(items), free_bytes(store.home), memory_bytes())


def registry_manifest(name: Name) -> Manifest:
    """The manifest of ``name`` on the registry ``name.host``; raises as ``wanrun.sources.oci.pull``."""
    with Client(of_name(name), "pull") as client:
        return manifests.decode(get_manifest(client, name.tag))


def check_room(plan: Plan, home: Path) -> None:
    """StoreError when the disk of ``home`` cannot hold what is missing."""
    if plan.missing > plan.free:
        raise StoreError(
            f"{plan.name} needs {plan.missing:,} more bytes, and the disk of {home} has {plan.free:,} free: "
            "free some space, or set WANRUN_HOME to another disk"
        )


def free_bytes(home: Path) -> int:
    """Bytes that can still be written where ``home`` is or will be."""
    while not home.exists() and home != home.parent:
        home = home.parent
    return shutil.disk_usage(home).free


def memory_bytes() -> int:
    """The machine's memory, in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _item(store: Store, role: str, part: Part | AdapterPart) -> Item:
    kind, place = locate(part.reference, Path("/"))
    if kind == "path":
        size = Path(place).stat().st_size if Path(place).is_file() else None
        return Item(role, part.origin, size, size or 0)
    if kind == "hub":
        listing, file = hub.find(hub.parse(place))
        remote = hub.remote(listing, file)
    elif place.lower().startswith(("http://", "https://")):
        remote = http.parse(place)
    else:
        return Item(role, place, None, 0)
    return Item(role, remote.label, remote.size, _here(store, remote), remote.digest)


def _here(store: Store, remote: Remote) -> int:
    """Bytes of ``remote`` that the store has, whole or half-finished."""
    digest, size = remote.digest, remote.size
    if digest is not None and size is not None and has_blob(store.blobs, digest, size):
        return size
    try:
        status = parts.partial_path(store.blobs, remote).stat()
    except OSError:
        return 0
    return min(status.st_blocks * 512, status.st_size)  # it has holes
