"""Makes bundles: from a Modelfile, or from the shipped library when a name is first used."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import wanrun
from wanrun.errors import InvalidRequest, ModelNotFound, WanrunError
from wanrun.modelfile import grammar, library
from wanrun.modelfile.check import Candidate, check
from wanrun.modelfile.document import ComponentLine, Modelfile
from wanrun.modelfile.spec import Part, Spec, check_requires, complete, flatten
from wanrun.sources.local import fetch
from wanrun.store import garbage, manifests
from wanrun.store.blobs import add_bytes, add_file, blob_path
from wanrun.store.digest import Digest
from wanrun.store.manifests import COMPONENT_TYPE, EMPTY_CONFIG, MODELFILE_TYPE, Layer
from wanrun.store.names import DEFAULT_HOST, DEFAULT_NAMESPACE, Name, parse_name
from wanrun.store.store import Store
from wanrun.types import ROLES, Bundle, Progress
from wanrun.wan.detect import Identity


def quiet(phase: str, done: int, total: int) -> None:
    """A Progress that shows nothing."""


def create(
    store: Store, name: str | Name, modelfile: Modelfile, folder: Path, progress: Progress = quiet
) -> Bundle:
    """Makes ``modelfile`` a bundle called ``name``; its paths are relative to ``folder``.

    Files are checked by their headers first, then brought into the store, and the name comes last. The
    variant's defaults are written into the bundle for the parameters that are not given. Raises
    InvalidRequest with every reason why the files do not make a model, StoreError when they cannot be stored.
    """
    name = parse_name(name) if isinstance(name, str) else name
    spec = flatten(modelfile, folder, lambda text: describe(store, text))
    check_requires(spec, wanrun.__version__)
    candidates = _candidates(spec, store, progress)
    identities = check(candidates)
    try:
        with store.hold():
            layers = _import(store, candidates, progress)
            settings = _settings(spec, layers, identities).encode()
            digest = add_bytes(store.blobs, settings)
            add_bytes(store.blobs, EMPTY_CONFIG)
            layers.append(Layer(MODELFILE_TYPE, digest, len(settings), title="Modelfile"))
            manifests.write(store.manifests, name, manifests.encode(layers))
    finally:
        garbage.sweep(store.home)
    return store.get(name)


def resolve(store: Store, name: str | Name, progress: Progress = quiet) -> Bundle:
    """The bundle ``name``, made from the shipped library first if it is only there; else ModelNotFound."""
    name = parse_name(name) if isinstance(name, str) else name
    try:
        return store.get(name)
    except ModelNotFound:
        path = shipped(name)
        if path is None:
            raise
    return create(store, name, grammar.read(path), path.parent, progress)


def describe(store: Store, name: str | Name, asked: tuple[Name, ...] = ()) -> Spec:
    """What ``name`` is made of, from the store or the shipped library; writes nothing."""
    name = parse_name(name) if isinstance(name, str) else name
    try:
        return _stored(store, name)
    except ModelNotFound:
        path = shipped(name)
        if path is None:
            raise
    if name in asked:
        raise InvalidRequest(f"{path} builds on itself: {' → '.join(map(str, (*asked, name)))}")
    return flatten(grammar.read(path), path.parent, lambda text: describe(store, text, (*asked, name)))


def shipped(name: Name) -> Path | None:
    """The Modelfile in the shipped library that ``name`` stands for when the store does not have it."""
    ours = (name.host, name.namespace) == (DEFAULT_HOST, DEFAULT_NAMESPACE)
    return library.find(name.model, name.tag) if ours else None


def _stored(store: Store, name: Name) -> Spec:
    modelfile = store.modelfile(name)
    components = {
        role: Part(role, str(blob_path(store.blobs, layer.digest).absolute()), layer.title)
        for role, layer in store.manifest(name).components.items()
    }
    return Spec(
        components,
        modelfile.adapters,
        modelfile.parameters,
        modelfile.template,
        modelfile.negative,
        modelfile.system,
        modelfile.licenses,
        modelfile.requires,
    )


def _candidates(spec: Spec, store: Store, progress: Progress) -> dict[str, Candidate]:
    candidates: dict[str, Candidate] = {}
    problems = [
        f"ADAPTER {adapter.reference}: adapters cannot be applied by this version; merge it into the model"
        for adapter in spec.adapters
    ]
    for role in ROLES:
        if role in spec.components:
            part = spec.components[role]
            try:
                path = fetch(part.reference, store.blobs, progress)
                candidates[role] = Candidate(role, path, _origin(store, path, part))
            except WanrunError as error:
                problems.append(f"{role}: {error}")
    if problems:
        raise InvalidRequest("\n".join(problems))
    return candidates


def _origin(store: Store, path: Path, part: Part) -> str:
    """The file's own name, also when it is given as one of our blobs."""
    digest = Digest.of_file_name(path.name)
    if digest is None or path.parent != store.blobs.absolute():
        return part.origin
    for entry in store.list():
        with suppress(WanrunError):  # removed since it was listed
            for layer in store.manifest(entry.name).components.values():
                if layer.digest == digest:
                    return layer.title
    return part.origin


def _import(store: Store, candidates: dict[str, Candidate], progress: Progress) -> list[Layer]:
    layers: dict[str, Layer] = {}
    for role, candidate in candidates.items():
        digest, size = add_file(store.blobs.absolute(), candidate.path, progress)
        layers[role] = Layer(COMPONENT_TYPE, digest, size, role, candidate.origin)
    high, low = layers.get("high_noise"), layers.get("low_noise")
    if high is not None and low is not None and high.digest == low.digest:
        raise InvalidRequest(
            f"{high.title} and {low.title} have the same bytes: each expert has its own file"
        )
    return list(layers.values())


def _settings(spec: Spec, layers: list[Layer], identities: dict[str, Identity]) -> str:
    """The Modelfile that the bundle keeps: what is inherited or defaulted written out, files by digest."""
    variant = next(identity.variant for role, identity in identities.items() if identity.kind == "diffusion")
    parameters = complete(spec.parameters, variant, "high_noise" in identities)
    lines = tuple(ComponentLine(layer.role, str(layer.digest)) for layer in layers)
    stored = Modelfile(None, lines, (), parameters, spec.template, spec.negative, spec.system)
    return grammar.dump(replace(stored, licenses=spec.licenses, requires=spec.requires))
