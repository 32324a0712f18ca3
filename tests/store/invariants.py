"""What must be true of a store at every moment."""

from __future__ import annotations

import hashlib

from wanrun.store.digest import Digest
from wanrun.store.store import Store


def hold(store: Store) -> None:
    """Every blob has the digest it is named by, and every name that has a manifest is whole."""
    blobs = list(store.blobs.iterdir()) if store.blobs.is_dir() else []
    for path in blobs:
        if not path.name.startswith("."):  # half-written, or half-downloaded
            assert Digest.of_file_name(path.name) == Digest(hashlib.sha256(path.read_bytes()).hexdigest())
    assert store.damaged() == ()
    for entry in store.list():
        bundle = store.get(entry.name)
        for component in (*bundle.components.values(), *(each.component for each in bundle.adapters)):
            data = component.path.read_bytes()
            assert (component.digest, component.size) == (str(Digest.of(data)), len(data))


def leftovers(store: Store) -> list[str]:
    """Temporary files, and blobs that no bundle names."""
    needed = {digest.file_name for entry in store.list() for digest in store.manifest(entry.name).blobs}
    return sorted(path.name for path in store.blobs.iterdir() if path.name not in needed)
