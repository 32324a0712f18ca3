"""Brings manifests and blobs from a registry into the store."""

from __future__ import annotations

from pathlib import Path

from wanrun.errors import DownloadError, FormatError, InvalidRequest, ModelNotFound
from wanrun.sources.download import Refused, Remote, download
from wanrun.sources.oci.client import Client, Request, describe, require
from wanrun.sources.oci.repository import of_name
from wanrun.store import garbage, leases, manifests
from wanrun.store.admission import admit, examine_modelfile
from wanrun.store.blobs import add_bytes, has_blob, read_blob
from wanrun.store.digest import Digest
from wanrun.store.manifests import EMPTY_CONFIG, MANIFEST_TYPE, Layer
from wanrun.store.names import Name
from wanrun.store.store import Store
from wanrun.types import Progress

_REDIRECTS = range(300, 400)


def pull(store: Store, name: Name, progress: Progress) -> None:
    """Brings the bundle ``name`` from the registry ``name.host`` into the store; fetches what is not there.

    The name comes last, after every digest, size, role and header was checked. What was interrupted is
    carried on by the next call. Raises ModelNotFound, DownloadError, StoreError, and for what the registry
    gives but is no model FormatError or InvalidRequest, after which nothing of it is left.
    """
    try:
        with store.hold(), Client(of_name(name), "pull") as client:
            progress("pulling manifest", 0, 0)
            data = get_manifest(client, name.tag)
            _pull(client, store, name, data, progress)
            admit(store, name, data)
            leases.release(store.home, name)
    except (FormatError, InvalidRequest) as error:
        leases.release(store.home, name)
        raise type(error)(f"{name}: {error}") from error
    finally:
        garbage.sweep(store.home)


def get_manifest(client: Client, reference: str) -> bytes:
    """The manifest with that tag or digest, its bytes as its digest says."""
    what = f"{client.repository}{'@' if ':' in reference else ':'}{reference}"
    reply = client.get(client.repository.manifest(reference), MANIFEST_TYPE, manifests.MAX_BYTES)
    if reply.status == 404:
        raise ModelNotFound(f"model '{what}' not found in the registry ({describe(reply)})")
    require(reply, 200, what=what)
    kind = reply.headers.get("content-type", "").partition(";")[0].strip()
    if kind != MANIFEST_TYPE:
        raise FormatError(f"{what} is {kind!r:.100}, not a single OCI artifact ({MANIFEST_TYPE})")
    own = str(Digest.of(reply.body))
    asked = reference if reference.startswith("sha256:") else own
    for promised in (asked, reply.headers.get("docker-content-digest", own)):
        if promised != own:
            raise DownloadError(f"the manifest of {what} arrived as {own}, not as {promised!r:.100}")
    return reply.body


def get_blob(client: Client, layer: Layer, blobs: Path, progress: Progress) -> None:
    """Brings one blob into the folder ``blobs``, unless it is there."""
    if not has_blob(blobs, layer.digest, layer.size):
        _look(client, layer)
        _download(client, layer, blobs, progress)
    progress(f"pulling {_title(layer)}", layer.size, layer.size)


def _download(client: Client, layer: Layer, blobs: Path, progress: Progress) -> None:
    """With a new token whenever one has run out, as long as each brings some bytes."""
    url, arrived, furthest = str(client.repository.blob(layer.digest)), 0, -1

    def note(phase: str, done: int, total: int) -> None:
        nonlocal arrived
        arrived = max(arrived, done)
        progress(phase, done, total)

    while True:
        try:
            download(Remote(url, layer.size, layer.digest, client.headers, _title(layer)), blobs, note)
            return
        except Refused as error:
            if error.status != 401 or arrived <= furthest:
                raise
            furthest = arrived
            _look(client, layer)


def _pull(client: Client, store: Store, name: Name, data: bytes, progress: Progress) -> None:
    manifest = manifests.decode(data)
    if manifest.config.digest == Digest.of(EMPTY_CONFIG):
        add_bytes(store.blobs, EMPTY_CONFIG)
    layer = manifest.modelfile
    get_blob(client, layer, store.blobs, progress)
    examine_modelfile(manifest, read_blob(store.blobs, layer.digest, layer.size))
    for layer in (manifest.config, *manifest.layers):
        get_blob(client, layer, store.blobs, progress)
        leases.keep(store.home, name, layer.digest)


def _title(layer: Layer) -> str:
    return layer.title or layer.digest.short


def _look(client: Client, layer: Layer) -> None:
    """Asks whether the blob is there, as long as it should be; this also renews the token."""
    reply = client.send(Request("HEAD", client.repository.blob(layer.digest)))
    if reply.status in _REDIRECTS:
        return  # to a store whose URL may be for GET alone
    if reply.status == 404:
        raise DownloadError(
            f"{client.repository} is incomplete: blob {layer.digest} is missing; push it again"
        )
    require(reply, 200, what=f"{client.repository}: blob {layer.digest}")
    length = reply.headers.get("content-length", str(layer.size))
    if length != str(layer.size):
        raise DownloadError(
            f"{client.repository}: blob {layer.digest} has {length!r:.30} bytes, "
            f"and the manifest says {layer.size}"
        )
