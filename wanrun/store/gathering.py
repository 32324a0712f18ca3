"""Brings the files of a bundle to be onto this machine."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from wanrun import plugins
from wanrun.errors import DownloadError, InvalidRequest, StoreError, WanrunError
from wanrun.modelfile.check import Candidate
from wanrun.modelfile.spec import AdapterPart, Part, Spec
from wanrun.sources.reference import locate
from wanrun.store import leases
from wanrun.store.digest import Digest
from wanrun.store.names import Name
from wanrun.store.store import Store
from wanrun.types import ROLES, Progress

#: References of a Spec are absolute already, so where they are read from does not matter.
_ROOT = Path("/")


def gather(
    spec: Spec, store: Store, name: Name, progress: Progress
) -> tuple[dict[str, Candidate], list[Candidate]]:
    """The files of ``spec``, components by role and adapters in their order.

    Those on this machine come first, because nothing is downloaded beside a mistake.
    """
    components: dict[str, Candidate] = {}
    adapters: dict[int, Candidate] = {}
    problems: list[str] = []
    blobs, titles = store.blobs.absolute(), _titles(store, spec)
    wanted: list[tuple[str | int, Part | AdapterPart]] = [
        *((role, spec.components[role]) for role in ROLES if role in spec.components),
        *enumerate(spec.adapters),
    ]
    for place, part in sorted(wanted, key=lambda item: is_remote(item[1].reference)):
        if problems and is_remote(part.reference):
            break
        try:
            path = fetch(part.reference, blobs, progress)
        except (DownloadError, StoreError):
            raise  # nothing else is worth downloading before this is mended
        except WanrunError as error:
            problems.append(f"{place if isinstance(place, str) else 'adapter'}: {error}")
            continue
        _keep(store, name, part, path)
        candidate = Candidate(part.role, path, _origin(titles, blobs, path, part))
        if isinstance(place, str):
            components[place] = candidate
        else:
            adapters[place] = candidate
    if problems:
        raise InvalidRequest("\n".join(problems))
    return {role: components[role] for role in ROLES if role in components}, [
        adapters[index] for index in sorted(adapters)
    ]


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


def _keep(store: Store, name: Name, part: Part | AdapterPart, path: Path) -> None:
    """What was downloaded survives until the bundle is made, whatever happens before."""
    digest = Digest.of_file_name(path.name)
    if digest is not None and is_remote(part.reference):
        leases.keep(store.home, name, digest)


def _origin(titles: dict[Digest, str], blobs: Path, path: Path, part: Part | AdapterPart) -> str:
    """The file's own name, also when it is given as one of our blobs."""
    digest = Digest.of_file_name(part.origin)
    if digest is not None and path.parent == blobs:
        return titles.get(digest, part.origin)
    if not is_remote(part.reference):
        return part.origin
    return re.split(r"[?#@]", part.origin)[0]


def _titles(store: Store, spec: Spec) -> dict[Digest, str]:
    """Names of the blobs, as the bundle gives them that has most in common with ``spec``."""
    wanted = {Path(part.reference).name for part in spec.files}
    known: list[dict[Digest, str]] = []
    for entry in store.list():
        with suppress(WanrunError):  # removed since it was listed
            manifest = store.manifest(entry.name)
            layers = (*manifest.components.values(), *manifest.adapters)
            known.append({layer.digest: layer.title for layer in layers})
    known.sort(key=lambda titles: sum(digest.file_name in wanted for digest in titles))
    return {digest: title for titles in known for digest, title in titles.items()}
