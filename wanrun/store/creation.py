"""Makes bundles: from a Modelfile, or from the shipped library when a name is first used."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import wanrun
from wanrun.errors import InvalidRequest, ModelNotFound
from wanrun.modelfile import grammar, library
from wanrun.modelfile.adapters import check_adapters
from wanrun.modelfile.check import Candidate, check
from wanrun.modelfile.document import AdapterLine, ComponentLine, Modelfile
from wanrun.modelfile.spec import AdapterPart, Part, Spec, check_requires, complete, flatten
from wanrun.store import garbage, leases, manifests
from wanrun.store.blobs import add_bytes, add_file, blob_path
from wanrun.store.durable import scratch
from wanrun.store.gathering import gather, is_remote
from wanrun.store.manifests import ADAPTER_TYPE, COMPONENT_TYPE, EMPTY_CONFIG, MODELFILE_TYPE, Layer
from wanrun.store.names import DEFAULT_HOST, DEFAULT_NAMESPACE, Name, parse_name
from wanrun.store.quantizing import quantize_apart
from wanrun.store.store import Store
from wanrun.types import EXPERTS, Bundle, Progress
from wanrun.wan.detect import Identity
from wanrun.wan.mixes import MIXES


def quiet(phase: str, done: int, total: int) -> None:
    """A Progress that shows nothing."""


def create(
    store: Store, name: str | Name, modelfile: Modelfile, folder: Path, progress: Progress = quiet
) -> Bundle:
    """Makes ``modelfile`` a bundle called ``name``; its paths are relative to ``folder``.

    What lies on other machines is fetched, files are checked by their headers, then brought into the store,
    and the name comes last. The variant's defaults are written into the bundle for the parameters that are
    not given. Raises InvalidRequest with every reason why the files do not make a model, StoreError when they
    cannot be stored, DownloadError when one does not arrive; what did arrive is there for the next attempt.
    """
    name = parse_name(name) if isinstance(name, str) else name
    return make(store, name, flatten(modelfile, folder, lambda text: describe(store, text)), progress)


def make(store: Store, name: Name, spec: Spec, progress: Progress = quiet) -> Bundle:
    """Makes ``spec`` a bundle called ``name``, as :func:`create` does."""
    check_requires(spec, wanrun.__version__)
    try:
        with store.hold():
            candidates, adapters = gather(spec, store, name, progress)
            identities = check(candidates)
            check_adapters(adapters, candidates)
            layers = _import(store, _quantized(store, spec, candidates, progress), progress)
            layers += _import_adapters(store, spec, adapters, progress)
            settings = _settings(spec, layers, identities).encode()
            digest = add_bytes(store.blobs, settings)
            add_bytes(store.blobs, EMPTY_CONFIG)
            layers.append(Layer(MODELFILE_TYPE, digest, len(settings), title="Modelfile"))
            manifests.write(store.manifests, name, manifests.encode(layers))
            leases.release(store.home, name)
            return store.get(name)
    finally:
        garbage.sweep(store.home)


def resolve(store: Store, name: str | Name, progress: Progress = quiet) -> Bundle:
    """The bundle ``name``, made from the shipped library first if it is only there; else ModelNotFound.

    Nothing is downloaded: a shipped model whose files are on other machines has to be pulled.
    """
    name = parse_name(name) if isinstance(name, str) else name
    try:
        return store.get(name)
    except ModelNotFound:
        spec = describe_shipped(name)
    if any(is_remote(part.reference) for part in spec.files):
        raise ModelNotFound(
            f"{name} is not on this machine yet: 'wanrun pull {name}' fetches it, "
            "and with --plan says how much that is"
        )
    return make(store, name, spec, progress)


def describe(store: Store, name: str | Name) -> Spec:
    """What ``name`` is made of, from the store or the shipped library; writes nothing."""
    name = parse_name(name) if isinstance(name, str) else name
    try:
        return _stored(store, name)
    except ModelNotFound:
        if shipped(name) is None:
            raise
    return describe_shipped(name)


def describe_shipped(name: Name, asked: tuple[Name, ...] = ()) -> Spec:
    """What a model of the shipped library is made of; ModelNotFound with what comes nearest if there is none.

    Shipped models build on shipped models only, so that they are the same whatever the store holds.
    """
    path = shipped(name)
    if path is None:
        raise not_found(name)
    if name in asked:
        raise InvalidRequest(f"{path} builds on itself: {' → '.join(map(str, (*asked, name)))}")
    modelfile = grammar.read(path)
    return flatten(modelfile, path.parent, lambda text: describe_shipped(parse_name(text), (*asked, name)))


def shipped(name: Name) -> Path | None:
    """The Modelfile in the shipped library that ``name`` stands for when the store does not have it."""
    ours = (name.host, name.namespace) == (DEFAULT_HOST, DEFAULT_NAMESPACE)
    return library.find(name.model, name.tag) if ours else None


def not_found(name: Name) -> ModelNotFound:
    """The error for a name that neither the store nor the library has, with what comes nearest."""
    hint = "see 'wanrun list'"
    if name.host != DEFAULT_HOST:
        hint = f"'wanrun pull {name}' may fetch it"
    elif name.namespace == DEFAULT_NAMESPACE:
        hint = library.suggestion(name.model)
    return ModelNotFound(f"model '{name}' not found: {hint}")


def _stored(store: Store, name: Name) -> Spec:
    modelfile, manifest = store.modelfile(name), store.manifest(name)

    def place(layer: Layer) -> str:
        return str(blob_path(store.blobs, layer.digest).absolute())

    return Spec(
        {role: Part(role, place(layer), layer.title) for role, layer in manifest.components.items()},
        tuple(
            AdapterPart(layer.role, place(layer), layer.title, float(layer.scale))
            for layer in manifest.adapters
        ),
        modelfile.parameters,
        modelfile.template,
        modelfile.negative,
        modelfile.system,
        modelfile.licenses,
        modelfile.requires,
    )


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


def _import_adapters(store: Store, spec: Spec, adapters: list[Candidate], progress: Progress) -> list[Layer]:
    layers: list[Layer] = []
    for index, (part, candidate) in enumerate(zip(spec.adapters, adapters, strict=True)):
        digest, size = add_file(store.blobs.absolute(), candidate.path, progress)
        twin = next((layer for layer in layers if layer.digest == digest), None)
        if twin is not None:
            raise InvalidRequest(
                f"the adapters {twin.title} and {candidate.origin} have the same bytes: few-step adapters "
                "have a file for each expert; one that is meant for both is named once, without an expert"
            )
        layers.append(
            Layer(ADAPTER_TYPE, digest, size, part.role, candidate.origin, repr(part.scale), str(index))
        )
    return layers


def _quantized(
    store: Store, spec: Spec, candidates: dict[str, Candidate], progress: Progress
) -> dict[str, Candidate]:
    """The candidates, with experts of the type that ``spec`` wants: files that the next sweep removes."""
    if spec.quantize is None:
        return candidates
    made = dict(candidates)
    for role in EXPERTS:
        if role in candidates:
            path = scratch(store.blobs)
            quantize_apart(candidates[role].path, path, spec.quantize, progress)
            made[role] = Candidate(role, path, _retyped(candidates[role].origin, spec.quantize))
    return made


def _retyped(origin: str, kind: str) -> str:
    """``model-Q8_0.gguf`` as ``model-Q4_K_M.gguf``."""
    plain = re.sub(rf"[-_.]({'|'.join(MIXES)})$", "", Path(origin).stem, flags=re.IGNORECASE)
    return f"{plain}-{kind}.gguf"


def _settings(spec: Spec, layers: list[Layer], identities: dict[str, Identity]) -> str:
    """The Modelfile that the bundle keeps: what is inherited or defaulted written out, files by digest."""
    variant = next(identity.variant for role, identity in identities.items() if identity.kind == "diffusion")
    parameters = complete(spec.parameters, variant, "high_noise" in identities)
    lines = tuple(
        ComponentLine(layer.role, str(layer.digest)) for layer in layers if layer.media_type == COMPONENT_TYPE
    )
    adapters = tuple(
        AdapterLine(str(layer.digest), layer.role or None, float(layer.scale))
        for layer in layers
        if layer.media_type == ADAPTER_TYPE
    )
    stored = Modelfile(None, lines, adapters, parameters, spec.template, spec.negative, spec.system)
    return grammar.dump(replace(stored, licenses=spec.licenses, requires=spec.requires))
