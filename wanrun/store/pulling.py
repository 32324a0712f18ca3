"""Pulls: brings a whole bundle into the store by its name.

A name is one of the shipped library (``wan2.2-t2v-a14b:q5_k_m``), a repository of GGUF files on the Hub
(``hf.co/QuantStack/Wan2.2-T2V-A14B-GGUF:Q4_K_M``), whose experts are completed by the encoder and VAE that
the library has for the same model, or a bundle in a registry (``ghcr.io/me/wan:latest``). What arrived before
an interruption is leased, so the same command goes on where it stopped.
"""

from __future__ import annotations

from wanrun.errors import FormatError, InvalidRequest
from wanrun.gguf.header import read_header
from wanrun.modelfile.document import ComponentLine
from wanrun.sources import hub, oci
from wanrun.store import garbage, leases
from wanrun.store.creation import describe_shipped, make
from wanrun.store.digest import Digest
from wanrun.store.gathering import fetch
from wanrun.store.names import DEFAULT_HOST, Name, parse_name
from wanrun.store.planning import check_room, plan_manifest, plan_spec, registry_manifest
from wanrun.store.repositories import Repository, choose, completed, model_of_variant, parse_repository
from wanrun.store.store import Store
from wanrun.types import Progress
from wanrun.wan.detect import identify


def pull(store: Store, text: str, progress: Progress) -> Name:
    """Brings the bundle that ``text`` names into the store, manifest last; returns its name there.

    Raises ModelNotFound with what there is instead, InvalidRequest when the files make no model, StoreError
    when the disk is too small (before anything is downloaded) or fails, DownloadError when a file does not
    arrive. Repeating the call goes on.
    """
    repository = parse_repository(text)
    if repository is not None:
        _pull_repository(store, repository, progress)
        return repository.name
    name = parse_name(text)
    if name.host != DEFAULT_HOST:
        _pull_registry(store, name, progress)
        return name
    spec = describe_shipped(name)
    check_room(plan_spec(store, name, spec), store.home)
    make(store, name, spec, progress)
    return name


def _pull_registry(store: Store, name: Name, progress: Progress) -> None:
    manifest = registry_manifest(name)
    check_room(plan_manifest(store, name, manifest), store.home)
    with store.hold():
        leases.keep(store.home, name, *manifest.blobs)
    try:
        oci.pull(store, name, progress)
        leases.release(store.home, name)
    except (FormatError, InvalidRequest):  # it is no bundle, and will be none
        leases.release(store.home, name)
        garbage.sweep(store.home)
        raise


def _pull_repository(store: Store, repository: Repository, progress: Progress) -> None:
    listing = hub.files(repository.repo, repository.revision)
    lines = choose(repository, [file.path for file in listing.files], listing.commit)
    check_room(plan_spec(store, repository.name, completed(lines, None)), store.home)
    try:
        model = _model(store, repository, lines, progress)
        spec = completed(lines, model)
        check_room(plan_spec(store, repository.name, spec), store.home)
        make(store, repository.name, spec, progress)
    finally:
        garbage.sweep(store.home)


def _model(store: Store, repository: Repository, lines: tuple[ComponentLine, ...], progress: Progress) -> str:
    """The shipped model that the repository's first file is a variant of, by its header."""
    with store.hold():
        path = fetch(lines[0].reference, store.blobs.absolute(), progress)
        digest = Digest.of_file_name(path.name)
        if digest is not None:
            leases.keep(store.home, repository.name, digest)
        identity = identify(read_header(path))
    if identity.problem is not None:
        raise InvalidRequest(f"hf.co/{repository.repo}: {identity.problem}")
    model = model_of_variant(identity.variant, len(lines))
    if model is None:
        raise InvalidRequest(
            f"hf.co/{repository.repo} holds {identity.variant}, without a default encoder and VAE: "
            f"name {lines[0].reference}, TEXT_ENCODER and VAE in a Modelfile, and 'wanrun create' it"
        )
    return model
