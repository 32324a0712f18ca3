"""The LoRAs that requests bring along: put into the store when they are asked for, found there by digest.

One is written ``[high_noise=|low_noise=]REFERENCE[:SCALE]``. The reference is a file, a place to download one
from, a digest of the store, or a model whose adapters are meant. What only requests use stays in the store
until a week after it was last asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wanrun import settings
from wanrun.errors import InvalidRequest, ModelNotFound
from wanrun.modelfile.grammar import MAX_SCALE
from wanrun.sources.reference import locate
from wanrun.store import leases
from wanrun.store.blobs import add_file, blob_path
from wanrun.store.digest import Digest
from wanrun.store.gathering import fetch
from wanrun.store.names import DEFAULT_HOST, Name
from wanrun.store.store import Store, open_store
from wanrun.types import Adapter, Bundle, Component, Lora, Progress

_WRITTEN = re.compile(
    r"(?:(?P<role>[a-z_]+)=)?(?P<reference>.+?)(?::(?P<scale>[-+]?(?:\d{1,9}(?:\.\d{0,9})?|\.\d{1,9})))?"
)
_ENDING = ".safetensors"
_PLAIN = re.compile(r"[^\W.][^/\\\x00-\x1f]{0,199}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A LoRA as somebody asks for it; ``role`` is an expert's, or "" for all of them.

    Raises InvalidRequest for another role, a scale beyond that of an ADAPTER, or no reference.
    """

    reference: str
    role: str = ""
    scale: float = 1.0
    #: What a digest's file is called, for people.
    title: str = ""

    def __post_init__(self) -> None:
        if self.role not in ("", "high_noise", "low_noise"):
            raise InvalidRequest(f"a LoRA is for high_noise or low_noise, not for {self.role!r:.40}")
        if not abs(self.scale) <= MAX_SCALE:
            raise InvalidRequest(
                f"a LoRA's scale is a number from -{MAX_SCALE:g} to {MAX_SCALE:g}, not {self.scale!r:.40}"
            )
        if not self.reference:
            raise InvalidRequest("say which LoRA: [high_noise=|low_noise=]FILE[:SCALE]")


def parse(text: str) -> Wanted:
    """What ``text`` asks for; raises as ``Wanted``."""
    match = _WRITTEN.fullmatch(text.strip())
    if match is None:
        return Wanted("")
    return Wanted(match["reference"], match["role"] or "", float(match["scale"] or 1))


def bring(store: Store, wanted: Iterable[Wanted], progress: Progress) -> tuple[Lora, ...]:
    """What the user of this machine wants, in the store from now on.

    A file is looked for in the working folder, then in the setting's. Raises InvalidRequest and ModelNotFound
    for what is not there, DownloadError, StoreError.
    """
    return tuple(lora for each in wanted for lora in _brought(store, each, progress))


def allow(store: Store, wanted: Iterable[Wanted]) -> tuple[Lora, ...]:
    """What a client of the server wants, if it is the server's to give: never a path or a download.

    That is a file's name in the setting's folder, with or without its ending, a digest of the store, or a
    model. Raises InvalidRequest for anything else, ModelNotFound.
    """
    return tuple(lora for each in wanted for lora in _allowed(store, each))


def with_loras(bundle: Bundle, loras: Sequence[Lora]) -> Bundle:
    """``bundle`` with the adapters of a request behind its own; InvalidRequest for one that is gone."""
    return replace(bundle, adapters=(*bundle.adapters, *map(_adapter, loras))) if loras else bundle


def _brought(store: Store, wanted: Wanted, progress: Progress) -> list[Lora]:
    named = _named(wanted.reference)
    kind, place = locate(wanted.reference, Path.cwd())
    if named is not None and not (kind == "path" and Path(place).is_file()):
        return [_added(store, wanted, named, named.name, progress)]
    if _is_digest(wanted.reference) or kind == "name":
        return _stored(store, wanted)
    with store.hold():
        path = fetch(place, store.blobs.absolute(), progress)
        return [_added(store, wanted, path, re.split(r"[?#@]", re.split(r"[/\\]", place)[-1])[0], progress)]


def _allowed(store: Store, wanted: Wanted) -> list[Lora]:
    named = _named(wanted.reference)
    if named is not None:
        return [_added(store, wanted, named, named.name, _quiet)]
    return _stored(store, wanted)


def _named(reference: str) -> Path | None:
    """The file of the setting's folder that is meant by its name alone."""
    if not _PLAIN.fullmatch(reference):
        return None
    paths = (settings.loras() / name for name in (reference, reference + _ENDING))
    return next((path for path in paths if path.is_file()), None)


def _added(store: Store, wanted: Wanted, path: Path, origin: str, progress: Progress) -> Lora:
    with store.hold():
        digest, _ = add_file(store.blobs.absolute(), path, progress)
        _keep(store, digest)
    return Lora(wanted.role, wanted.scale, str(digest), origin)


def _stored(store: Store, wanted: Wanted) -> list[Lora]:
    """What the store has already: the blob of a digest, or a model's adapters."""
    if _is_digest(wanted.reference):
        digest = Digest.parse(wanted.reference.replace("sha256-", "sha256:", 1))
        with store.hold():
            if not blob_path(store.blobs, digest).is_file():
                raise ModelNotFound(f"the store has no file {digest}: bring it to POST /api/blobs/{digest}")
            _keep(store, digest)
        origin = wanted.title or f"sha256-{digest.short}"
        return [Lora(wanted.role, wanted.scale, str(digest), origin)]
    try:
        bundle = store.get(wanted.reference)
    except (ModelNotFound, InvalidRequest) as error:
        raise InvalidRequest(
            f"there is no LoRA {wanted.reference!r:.100}: it is no file, no digest and no model of the store"
        ) from error
    found = [each for each in bundle.adapters if not wanted.role or each.serves(wanted.role)]
    if not found:
        raise InvalidRequest(f"{bundle.name} has no adapters {wanted.role}".rstrip())
    for each in found:
        _keep(store, Digest.parse(each.component.digest))
    return [
        Lora(
            wanted.role or each.role,
            wanted.scale * each.scale,
            each.component.digest,
            each.component.origin,
        )
        for each in found
    ]


def _is_digest(reference: str) -> bool:
    return re.fullmatch(r"sha256[:-][0-9a-f]{64}", reference) is not None


def _keep(store: Store, digest: Digest) -> None:
    leases.keep(store.home, Name(DEFAULT_HOST, "requests", "lora", digest.hex), digest)


def _adapter(lora: Lora) -> Adapter:
    path = blob_path(open_store().blobs, Digest.parse(lora.digest))
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InvalidRequest(
            f"the LoRA {lora.origin} ({lora.digest}) is no longer in the store: ask for its file again"
        ) from error
    return Adapter(lora.role, lora.scale, Component("adapter", path, lora.digest, size, lora.origin))


def _quiet(phase: str, done: int, total: int) -> None:
    """A Progress that shows nothing."""
