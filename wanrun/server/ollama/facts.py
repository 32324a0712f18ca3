"""Says what kind of model a bundle is, from the headers of its files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from wanrun.errors import WanrunError
from wanrun.gguf.header import read_header
from wanrun.gguf.sums import parameter_count, sums_by_type
from wanrun.server.ollama.shapes import Details
from wanrun.store.blobs import blob_path
from wanrun.store.manifests import Manifest
from wanrun.store.store import Store
from wanrun.types import EXPERTS
from wanrun.wan.detect import identify

#: Tokens of a prompt that are read.
CONTEXT = 512
FAMILY = "wan"


@dataclass(frozen=True, slots=True)
class Expert:
    """One transformer's file."""

    format: str
    parameters: int
    type: str
    variant: str
    width: int
    layers: int


def details(store: Store, manifest: Manifest) -> Details:
    """The bundle's details; empty where its files cannot be read."""
    experts = _experts(store, manifest)
    return Details(
        format=experts[0].format if experts else "gguf",
        family=FAMILY,
        families=[FAMILY],
        parameter_size=_count(sum(each.parameters for each in experts)),
        quantization_level=", ".join(sorted({each.type for each in experts})),
    )


def information(store: Store, manifest: Manifest) -> dict[str, Any]:
    """What ``show`` tells in ``model_info``, under the keys of GGUF."""
    experts = _experts(store, manifest)
    if not experts:
        return {"general.architecture": FAMILY}
    return {
        "general.architecture": FAMILY,
        "general.name": experts[0].variant,
        "general.parameter_count": sum(each.parameters for each in experts),
        f"{FAMILY}.context_length": CONTEXT,
        f"{FAMILY}.embedding_length": experts[0].width,
        f"{FAMILY}.block_count": experts[0].layers,
        f"{FAMILY}.expert_count": len(experts),
    }


def _experts(store: Store, manifest: Manifest) -> list[Expert]:
    layers = [manifest.components[role] for role in EXPERTS if role in manifest.components]
    found = [_expert(blob_path(store.blobs, layer.digest)) for layer in layers]
    return [each for each in found if each is not None]


# a blob never changes
@lru_cache(256)
def _expert(path: Path) -> Expert | None:
    try:
        header = read_header(path)
    except WanrunError:
        return None
    identity = identify(header)
    kind = sums_by_type(header)[0].type if header.tensors else ""
    return Expert(
        header.format,
        parameter_count(header),
        kind,
        identity.variant,
        identity.width or 0,
        identity.layers or 0,
    )


def _count(parameters: int) -> str:
    for amount, unit in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if parameters >= amount:
            return f"{parameters / amount:.1f}{unit}"
    return str(parameters)
