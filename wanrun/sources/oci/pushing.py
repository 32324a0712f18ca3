"""Gives a bundle of the store to a registry."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from wanrun.errors import DownloadError, WanrunError
from wanrun.sources.oci import sessions, uploading
from wanrun.sources.oci.client import Client, Request, require
from wanrun.sources.oci.repository import Repository, of_name
from wanrun.sources.oci.uploading import Blob, Session, is_there
from wanrun.store import manifests
from wanrun.store.blobs import blob_path
from wanrun.store.digest import Digest
from wanrun.store.manifests import MANIFEST_TYPE, Layer
from wanrun.store.names import Name
from wanrun.store.store import Store
from wanrun.types import Progress

#: Repositories of the same registry that blobs may be mounted from; each is one more scope of the token.
_MAX_MOUNTS = 8


def push(store: Store, name: Name, progress: Progress) -> None:
    """Sends the bundle ``name`` to the registry ``name.host``, its manifest last.

    Blobs that are there are skipped, those that a bundle of the store has in another repository of that
    registry are mounted, and an interrupted upload is carried on. Raises ModelNotFound, StoreError, and
    DownloadError when the registry refuses or cannot be reached.
    """
    repository = of_name(name)
    with store.hold():
        store.manifest(name)
        data = manifests.read_bytes(store.manifests, name)
        manifest = manifests.decode(data)
        others = _others(store, repository, manifest.blobs)
        with Client(repository, "pull,push", tuple(others)) as client:
            layers = {layer.digest: layer for layer in (manifest.config, *manifest.layers)}
            for layer in layers.values():
                _push_blob(client, store.home, layer, others, progress)
            progress("pushing manifest", 0, 0)
            _push_manifest(client, name.tag, data)


def _push_blob(
    client: Client, home: Path, layer: Layer, others: dict[str, set[Digest]], progress: Progress
) -> None:
    title = layer.title or layer.digest.short
    blob = Blob(blob_path(home / "blobs", layer.digest), layer.digest, layer.size, title)
    record = sessions.record_path(home, client.repository, layer.digest)
    if not is_there(client, client.repository.blob(layer.digest)):
        kept = sessions.load(record)
        session = (
            None if kept is None else uploading.resume(client, Session(kept, 0, uploading.CHUNK), layer.size)
        )
        session = session or uploading.begin(client, _mount(client, layer.digest, others))
        if session is not None:
            uploading.upload(client, blob, session, record, progress)
            return
    progress(f"pushing {title}", layer.size, layer.size)


def _push_manifest(client: Client, tag: str, data: bytes) -> None:
    what = f"{client.repository}:{tag}"
    headers = {"Content-Type": MANIFEST_TYPE}
    reply = client.send(Request("PUT", client.repository.manifest(tag), headers, data))
    require(reply, 201, what=f"the manifest of {what} is refused")
    kept = reply.headers.get("docker-content-digest", str(Digest.of(data)))
    if kept != str(Digest.of(data)):
        raise DownloadError(f"the registry keeps {what} as {kept!r:.100}, not as it was sent: push it again")


def _others(store: Store, own: Repository, wanted: dict[Digest, int]) -> dict[str, set[Digest]]:
    """Which of the digests ``wanted`` other repositories of the same registry should have, by path."""
    found: dict[str, set[Digest]] = {}
    for entry in store.list():
        with suppress(WanrunError):  # removed since it was listed, or a name that no registry allows
            path = of_name(entry.name).path if entry.name.host == own.host else own.path
            shared = wanted.keys() & store.manifest(entry.name).blobs.keys()
            if path != own.path and shared:
                found.setdefault(path, set()).update(shared)
    return dict(list(found.items())[:_MAX_MOUNTS])


def _mount(client: Client, digest: Digest, others: dict[str, set[Digest]]) -> dict[str, str] | None:
    """What asks for a mount, if another repository really has the blob."""
    for path, digests in others.items():
        with suppress(DownloadError):  # not pushed yet, or not ours to read
            if digest in digests and is_there(client, Repository(client.repository.host, path).blob(digest)):
                return {"mount": str(digest), "from": path}
    return None
