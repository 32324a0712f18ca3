"""Makes bundles: from a Modelfile, or from the shipped library when a name is first used."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import wanrun
from wanrun import plugins
from wanrun.errors import DownloadError, InvalidRequest, ModelNotFound, StoreError, WanrunError
from wanrun.modelfile import grammar, library
from wanrun.modelfile.check import Candidate, check
from wanrun.modelfile.document import ComponentLine, Modelfile
from wanrun.modelfile.spec import Part, Spec, check_requires, complete, flatten
from wanrun.sources.reference import locate
from wanrun.store import garbage, leases, manifests
from wanrun.store.blobs import add_bytes, add_file, blob_path
from wanrun.store.digest import Digest
from wanrun.store.durable import scratch
from wanrun.store.manifests import COMPONENT_TYPE, EMPTY_CONFIG, MODELFILE_TYPE, Layer
from wanrun.store.names import DEFAULT_HOST, DEFAULT_NAMESPACE, Name, parse_name
from wanrun.store.store import Store
from wanrun.types import EXPERTS, ROLES, Bundle, Progress
from wanrun.wan.detect import Identity
from wanrun.wan.mixes import MIXES

#: References of a Spec are absolute already, so where they are read from does not matter.
_ROOT = Path("/")


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
    check_adapters(spec, name)
    try:
        with store.hold():
            candidates = _candidates(spec, store, name, progress)
            identities = check(candidates)
            layers = _import(store, _quantized(store, spec, candidates, progress), progress)
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
    if any(is_remote(part.reference) for part in spec.components.values()):
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


def check_adapters(spec: Spec, name: Name) -> None:
    """InvalidRequest when ``spec`` needs adapters: a bundle without them would be another model."""
    if spec.adapters:
        files = ", ".join(adapter.reference for adapter in spec.adapters)
        raise InvalidRequest(
            f"{name} needs adapters (LoRA), and adapters cannot be applied by this version: without {files} "
            "it would be another model, so nothing was fetched; use a model that has them merged in"
        )


def is_remote(reference: str) -> bool:
    """Whether the file of ``reference`` lies on another machine."""
    return locate(reference, _ROOT)[0] != "path"


def fetch(reference: str, into: Path, progress: Progress) -> Path:
    """Where the file of ``reference`` lies once the source for its kind has brought it."""
    kind, place = locate(reference, _ROOT)
    scheme = place.partition(":")[0].lower()
    kinds = {"path": "local", "name": "local", "hub": "hub"}
    source = kinds.get(kind) or ("http" if scheme in ("http", "https") else scheme)
    path: Path = plugins.load("sources", source)(place, into, progress)
    return path


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


def _candidates(spec: Spec, store: Store, name: Name, progress: Progress) -> dict[str, Candidate]:
    """The files of ``spec``: those on this machine first, because nothing is downloaded beside a mistake."""
    candidates: dict[str, Candidate] = {}
    problems: list[str] = []
    blobs, titles = store.blobs.absolute(), _titles(store, spec)
    for role, part in sorted(spec.components.items(), key=lambda item: is_remote(item[1].reference)):
        if problems and is_remote(part.reference):
            break
        try:
            path = fetch(part.reference, blobs, progress)
        except (DownloadError, StoreError):
            raise  # nothing else is worth downloading before this is mended
        except WanrunError as error:
            problems.append(f"{role}: {error}")
            continue
        _keep(store, name, part, path)
        candidates[role] = Candidate(role, path, _origin(titles, blobs, path, part))
    if problems:
        raise InvalidRequest("\n".join(problems))
    return {role: candidates[role] for role in ROLES if role in candidates}


def _keep(store: Store, name: Name, part: Part, path: Path) -> None:
    """What was downloaded survives until the bundle is made, whatever happens before."""
    digest = Digest.of_file_name(path.name)
    if digest is not None and is_remote(part.reference):
        leases.keep(store.home, name, digest)


def _origin(titles: dict[Digest, str], blobs: Path, path: Path, part: Part) -> str:
    """The file's own name, also when it is given as one of our blobs."""
    digest = Digest.of_file_name(part.origin)
    if digest is not None and path.parent == blobs:
        return titles.get(digest, part.origin)
    if not is_remote(part.reference):
        return part.origin
    return re.split(r"[?#@]", part.origin)[0]


def _titles(store: Store, spec: Spec) -> dict[Digest, str]:
    """Names of the blobs, as the bundle gives them that has most in common with ``spec``."""
    wanted = {Path(part.reference).name for part in spec.components.values()}
    known: list[dict[Digest, str]] = []
    for entry in store.list():
        with suppress(WanrunError):  # removed since it was listed
            layers = store.manifest(entry.name).components.values()
            known.append({layer.digest: layer.title for layer in layers})
    known.sort(key=lambda titles: sum(digest.file_name in wanted for digest in titles))
    return {digest: title for titles in known for digest, title in titles.items()}


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


def _quantized(
    store: Store, spec: Spec, candidates: dict[str, Candidate], progress: Progress
) -> dict[str, Candidate]:
    """The candidates, with experts of the type that ``spec`` wants: files that the next sweep removes."""
    if spec.quantize is None:
        return candidates
    from wanrun.wan.requantize import quantize_transformer  # torch

    made = dict(candidates)
    for role in EXPERTS:
        if role in candidates:
            path = scratch(store.blobs)
            quantize_transformer(candidates[role].path, path, spec.quantize, progress)
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
    lines = tuple(ComponentLine(layer.role, str(layer.digest)) for layer in layers)
    stored = Modelfile(None, lines, (), parameters, spec.template, spec.negative, spec.system)
    return grammar.dump(replace(stored, licenses=spec.licenses, requires=spec.requires))
