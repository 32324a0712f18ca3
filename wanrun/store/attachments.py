"""What travels with a bundle and is not run: the reports on it, and the recipes that it was quantised by."""

from __future__ import annotations

import json
from pathlib import Path

from wanrun.errors import FormatError, InvalidRequest, ModelNotFound
from wanrun.store import garbage, manifests
from wanrun.store.blobs import add_bytes, read_blob
from wanrun.store.manifests import Layer
from wanrun.store.names import Name, parse_name
from wanrun.store.store import Store
from wanrun.wan.recipe import parse_recipe

REPORT_TYPE = "application/vnd.wanrun.report.v1+json"
RECIPE_TYPE = "application/vnd.wanrun.recipe.v1+yaml"
MAX_BYTES = 4 << 20


def attach(store: Store, name: str | Name, path: Path) -> Layer:
    """Makes the report (JSON of ``wanrun evaluate``) or recipe (YAML) in ``path`` a layer of the bundle.

    It takes the place of one of the same file name. Raises InvalidRequest for other files, ModelNotFound,
    StoreError.
    """
    name = parse_name(name) if isinstance(name, str) else name
    data = _read(path)
    kind = REPORT_TYPE if _is_report(data) else RECIPE_TYPE
    if kind == RECIPE_TYPE:
        try:
            rules = parse_recipe(data, path).rules
        except FormatError as error:
            raise InvalidRequest(
                f"{path} is no report of 'wanrun evaluate' and no recipe: {error}"
            ) from error
        if not rules:
            raise InvalidRequest(f"{path} is no report of 'wanrun evaluate', and a recipe without types")
    with store.hold():
        kept = [
            layer
            for layer in store.manifest(name).layers
            if (layer.media_type, layer.title) != (kind, path.name)
        ]
        if len(kept) == manifests.MAX_LAYERS:
            raise InvalidRequest(f"{name} has {len(kept)} layers, as many as a bundle may have")
        made = Layer(kind, add_bytes(store.blobs, data), len(data), title=path.name)
        manifests.write(store.manifests, name, manifests.encode([*kept, made]))
    garbage.sweep(store.home)
    return made


def attached(store: Store, name: Name) -> list[tuple[Layer, bytes]]:
    """The bundle's reports and recipes with their bytes; none of a name that is not in the store."""
    try:
        layers = store.manifest(name).layers
    except ModelNotFound:
        return []
    found = []
    for layer in layers:
        if layer.media_type in (REPORT_TYPE, RECIPE_TYPE) and layer.size <= MAX_BYTES:
            data = read_blob(store.blobs, layer.digest, layer.size)
            if data is not None:
                found.append((layer, data))
    return found


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise InvalidRequest(f"{path} is larger than a report or a recipe may be, {MAX_BYTES >> 20} MiB")
    return data


def _is_report(data: bytes) -> bool:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and isinstance(found.get("suite"), str)
