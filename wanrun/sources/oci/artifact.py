"""The source for single files on OCI registries, such as ``oras push`` makes."""

from __future__ import annotations

from pathlib import Path

from wanrun.errors import FormatError
from wanrun.sources.oci.client import Client
from wanrun.sources.oci.pulling import get_blob, get_manifest
from wanrun.sources.oci.repository import parse_reference
from wanrun.store import manifests
from wanrun.store.blobs import blob_path
from wanrun.types import Progress


def fetch(reference: str, into: Path, progress: Progress) -> Path:
    """Brings the one file of the artifact ``[oci://]host/repository[:tag][@digest]`` into ``into``.

    Returns the path of its blob, whose media type says nothing: ``oras`` calls every file a tar. Raises
    FormatError for an artifact of several files, such as a bundle, and the errors of ``pull``.
    """
    repository, tag = parse_reference(reference)
    with Client(repository, "pull") as client:
        try:
            manifest = manifests.decode_artifact(get_manifest(client, tag))
        except FormatError as error:
            raise FormatError(f"{reference}: {error}") from error
        if manifest.artifact_type == manifests.BUNDLE_TYPE:
            raise FormatError(f"{reference} is a bundle of several files: name it in FROM, or pull it")
        if len(manifest.layers) != 1:
            raise FormatError(f"{reference} holds {len(manifest.layers)} files: a component is one file")
        (layer,) = manifest.layers
        get_blob(client, layer, into, progress)
        return blob_path(into, layer.digest)
