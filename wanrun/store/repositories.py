"""Finds a model in a repository of GGUF files on the Hub: which quants it has, and which files a quant is.

A name is ``hf.co/user/repo[:QUANT][@revision]``, upper and lower case as on the Hub. Quants are told by the
ends of the files' names, experts by their paths (QuantStack has ``HighNoise/`` and ``LowNoise/``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from wanrun.errors import InvalidRequest, ModelNotFound
from wanrun.modelfile import library
from wanrun.modelfile.document import ComponentLine, Modelfile
from wanrun.modelfile.spec import Spec, flatten
from wanrun.store.creation import describe_shipped
from wanrun.store.names import DEFAULT_TAG, Name, parse_name
from wanrun.wan.detect import expert_hint

_NAME = re.compile(
    r"(?:hf\.co|huggingface\.co)/(?P<repo>[^/:@]+/[^/:@]+)(?::(?P<quant>[^/:@]+))?(?:@(?P<revision>[^:@]+))?",
    re.IGNORECASE,
)
_HUB = re.compile(r"(hf\.co|huggingface\.co)/", re.IGNORECASE)
_QUANT = re.compile(r".*?[-_.]((?:I?Q[0-9]_[0-9A-Z_]+)|B?F16|F32)\.gguf", re.IGNORECASE)
_NO_MODEL = re.compile(r"umt5|encoder|clip|vae|mmproj", re.IGNORECASE)
#: What is taken when no quant is named, the first that there is.
_PREFERRED = ("q4_k_m", "q4_k_s", "q4_0", "q5_k_m", "q5_k_s", "q5_0", "q6_k", "q8_0")


@dataclass(frozen=True, slots=True)
class Repository:
    """A model on the Hub; ``quant`` is in lower case and empty where none is named."""

    repo: str
    quant: str = ""
    revision: str | None = None

    @property
    def name(self) -> Name:
        """What the bundle is called in the store; the revision is not part of it."""
        return parse_name(f"hf.co/{self.repo}:{self.quant or DEFAULT_TAG}")


def parse_repository(text: str) -> Repository | None:
    """The repository that ``text`` names, None for a name of another kind; InvalidRequest for a bad one."""
    if not _HUB.match(text):
        return None
    match = _NAME.fullmatch(text)
    if match is None:
        raise InvalidRequest(
            f"cannot pull {text!r:.200}: give hf.co/user/repo[:QUANT][@revision]; "
            "single files are named in a Modelfile, which 'wanrun create' makes a model of"
        )
    quant = (match["quant"] or "").lower()
    found = Repository(match["repo"], "" if quant == DEFAULT_TAG else quant, match["revision"])
    _ = found.name  # raises for what can never be one
    return found


def choose(repository: Repository, files: Iterable[str], commit: str) -> tuple[ComponentLine, ...]:
    """The DIFFUSION lines of the repository's model, pinned to ``commit``.

    Raises ModelNotFound with the quants that there are, InvalidRequest when a quant is not one model.
    """
    quants = _quants(files)
    if not quants:
        raise ModelNotFound(f"hf.co/{repository.repo} has no GGUF file of a diffusion model")
    known = sorted(quants, key=library.quant_order)
    quant = repository.quant or next((each for each in _PREFERRED if each in quants), known[0])
    if quant not in quants:
        raise ModelNotFound(f"hf.co/{repository.repo} has no {quant}: it has {', '.join(known)}")
    paths = quants[quant]
    roles = [expert_hint(path) or "diffusion" for path in paths]
    if sorted(roles) not in (["diffusion"], ["high_noise", "low_noise"]):
        raise InvalidRequest(
            f"hf.co/{repository.repo} has {len(paths)} files of {quant}, which are not one model: name those "
            f"that you want in a Modelfile, such as DIFFUSION hf.co/{repository.repo}/{paths[0]}"
        )
    pinned = {
        role: f"hf.co/{repository.repo}/{path}@{commit}" for role, path in zip(roles, paths, strict=True)
    }
    return tuple(ComponentLine(role, pinned[role]) for role in sorted(pinned))


def model_of_variant(variant: str, experts: int) -> str | None:
    """The shipped model with the default encoder and VAE of ``variant`` (of ``wanrun.wan.detect``).

    Two models have the same shapes: they differ in their number of experts.
    """
    choices = variant.split(" or ")
    model = choices[0] if experts == 2 else choices[-1]
    return model if model in _models() else None


def model_of_name(repo: str) -> str | None:
    """The shipped model that a repository is of, as far as its name tells."""
    plain = repo.lower().replace("_", "-")
    return max((model for model in _models() if model in plain), key=len, default=None)


def completed(lines: tuple[ComponentLine, ...], model: str | None) -> Spec:
    """The diffusion model of ``lines``, with everything else as the shipped ``model`` has it, if given."""
    modelfile = Modelfile(from_=model, components=lines)
    return flatten(modelfile, Path(__file__).parent, lambda text: describe_shipped(parse_name(text)))


def _models() -> set[str]:
    return {name.model for name in library.names()}


def _quants(files: Iterable[str]) -> dict[str, list[str]]:
    """Paths of diffusion models by quant."""
    found: dict[str, list[str]] = {}
    for path in sorted(files):
        name = path.rpartition("/")[2]
        match = _QUANT.fullmatch(name)
        if match is not None and not _NO_MODEL.search(name):
            found.setdefault(match[1].lower(), []).append(path)
    return found
