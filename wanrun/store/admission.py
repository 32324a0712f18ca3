"""Lets a bundle that was made elsewhere into the store, once its blobs are there."""

from __future__ import annotations

import wanrun
from wanrun.errors import FormatError, ModelfileError, StoreError
from wanrun.modelfile import grammar
from wanrun.modelfile.adapters import check_adapters
from wanrun.modelfile.check import Candidate, check
from wanrun.modelfile.document import Modelfile
from wanrun.modelfile.spec import Spec, check_requires
from wanrun.store import manifests
from wanrun.store.blobs import blob_path, has_blob, read_blob
from wanrun.store.manifests import Manifest
from wanrun.store.names import Name
from wanrun.store.store import Store
from wanrun.types import ROLES


def admit(store: Store, name: Name, data: bytes) -> None:
    """Makes ``name`` stand for the manifest ``data`` if it passes ``examine``. Hold the store meanwhile."""
    examine(store, data)
    manifests.write(store.manifests, name, data)


def examine(store: Store, data: bytes) -> None:
    """Checks a bundle as strictly as if it were made here: blobs, Modelfile, each file's header and role.

    Raises FormatError for a manifest or Modelfile that is none, InvalidRequest with every reason why the
    files do not make a model, StoreError when a blob is missing.
    """
    manifest = manifests.decode(data)
    for digest, size in manifest.blobs.items():
        if not has_blob(store.blobs, digest, size):
            raise StoreError(f"blob {digest} is missing or cut: repeat the command")
    examine_modelfile(manifest, read_blob(store.blobs, manifest.modelfile.digest, manifest.modelfile.size))
    candidates = {
        role: Candidate(role, blob_path(store.blobs, layer.digest), layer.title or role)
        for role, layer in manifest.components.items()
    }
    check({role: candidates[role] for role in ROLES if role in candidates})
    check_adapters(
        [
            Candidate(layer.role, blob_path(store.blobs, layer.digest), layer.title or "adapter")
            for layer in manifest.adapters
        ],
        candidates,
    )


def examine_modelfile(manifest: Manifest, data: bytes | None) -> None:
    """Checks that ``data`` is the Modelfile of a bundle with the components and adapters of ``manifest``."""
    if data is None:
        raise StoreError(f"blob {manifest.modelfile.digest} has changed or is missing: repeat the command")
    try:
        modelfile = grammar.parse(data)
    except ModelfileError as error:
        raise FormatError(f"the bundle's Modelfile is not one: {error}") from error
    check_requires(Spec(requires=modelfile.requires), wanrun.__version__)
    if not _names_its_files(modelfile, manifest):
        raise FormatError("the bundle's Modelfile names other files than its manifest")


def _names_its_files(modelfile: Modelfile, manifest: Manifest) -> bool:
    named = {line.role: line.reference for line in modelfile.components}
    held = {role: str(layer.digest) for role, layer in manifest.components.items()}
    adapters = [(line.role or "", line.reference, line.scale) for line in modelfile.adapters]
    applied = [(layer.role, str(layer.digest), float(layer.scale)) for layer in manifest.adapters]
    return modelfile.from_ is None and named == held and adapters == applied
