"""What a Modelfile means together with the bundle it builds on."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wanrun.errors import InvalidRequest, WanrunError
from wanrun.modelfile.document import AdapterLine, ComponentLine, Modelfile
from wanrun.modelfile.parameters import Value
from wanrun.sources.reference import locate
from wanrun.types import EXPERTS

#: Settings of the models as published (Wan-Video/Wan2.2, wan/configs; Wan-Video/Wan2.1, README.md), by
#: variant and whether there are two experts. 480p where the model does 480p and 720p.
_PUBLISHED: Mapping[tuple[str, bool], Mapping[str, Value]] = {
    ("wan2.1-t2v-1.3b", False): {"steps": 50, "shift": 8.0, "guidance": 6.0},
    ("wan2.2-t2v-a14b or wan2.1-t2v-14b", False): {"steps": 50, "shift": 5.0, "guidance": 5.0},
    ("wan2.2-t2v-a14b or wan2.1-t2v-14b", True): {
        "steps": 40,
        "shift": 12.0,
        "boundary": 0.875,
        "guidance_high": 4.0,
        "guidance_low": 3.0,
    },
    ("wan2.2-i2v-a14b", True): {
        "steps": 40,
        "shift": 5.0,
        "boundary": 0.9,
        "guidance_high": 3.5,
        "guidance_low": 3.5,
    },
    ("wan2.2-ti2v-5b", False): {
        "size": (1280, 704),
        "frames": 121,
        "fps": 24,
        "steps": 50,
        "shift": 5.0,
        "guidance": 5.0,
    },
}
_COMMON: Mapping[str, Value] = {"size": (832, 480), "frames": 81, "fps": 16, "steps": 50, "shift": 5.0}
_OF_EXPERTS = ("boundary", "guidance_high", "guidance_low")


@dataclass(frozen=True, slots=True)
class Part:
    """A component that is not in the store yet: an absolute path, or a reference to another machine."""

    role: str
    reference: str
    #: File name for people; may tell the expert.
    origin: str


@dataclass(frozen=True, slots=True)
class AdapterPart:
    """An adapter that is not in the store yet; ``role`` is an expert's, or "" for all of them."""

    role: str
    reference: str
    origin: str
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Spec:
    """A Modelfile with its parents' lines filled in."""

    components: Mapping[str, Part] = field(default_factory=dict)
    adapters: tuple[AdapterPart, ...] = ()
    parameters: Mapping[str, Value] = field(default_factory=dict)
    template: str | None = None
    negative: str | None = None
    system: str | None = None
    licenses: tuple[str, ...] = ()
    requires: str | None = None
    #: What the experts become when the bundle is made, unless a child gives its own.
    quantize: str | None = None

    @property
    def files(self) -> tuple[Part | AdapterPart, ...]:
        """Everything that has to be there."""
        return (*self.components.values(), *self.adapters)


def flatten(modelfile: Modelfile, folder: Path, parent: Callable[[str], Spec]) -> Spec:
    """``modelfile`` with everything that it inherits; its paths are relative to ``folder``.

    ``parent`` gives the bundle of a name and raises ModelNotFound. What the Modelfile says overrides what the
    parent says, a dense model both experts and their settings. Raises InvalidRequest with every reference
    that is wrong.
    """
    problems: list[str] = []
    base, lines = Spec(), list(modelfile.components)
    if modelfile.from_ is not None:
        try:
            kind, place = locate(modelfile.from_, folder)
            if kind == "name":
                base = parent(place)
            elif any(line.role in EXPERTS for line in lines):
                problems.append("FROM gives a dense model: no DIFFUSION line can stand beside it")
            else:
                lines.insert(0, ComponentLine("diffusion", modelfile.from_))
        except WanrunError as error:
            problems.append(str(error))
    own: dict[str, Part] = {}
    for line in lines:
        try:
            own[line.role] = _part(line, folder, parent)
        except WanrunError as error:
            problems.append(f"{line.role}: {error}")
    adapters: list[AdapterPart] = []
    for adapter in modelfile.adapters:
        try:
            adapters.append(_adapter(adapter, folder))
        except WanrunError as error:
            problems.append(f"adapter: {error}")
    if problems:
        raise InvalidRequest("\n".join(problems))
    return _override(base, own, tuple(adapters), modelfile)


def defaults(variant: str, two_experts: bool) -> dict[str, Value]:
    """Settings for a model of ``variant`` (of ``wanrun.wan.detect``) whose Modelfile does not give them."""
    general: dict[str, Value] = (
        {"boundary": 0.875, "guidance_high": 4.0, "guidance_low": 3.0} if two_experts else {"guidance": 5.0}
    )
    return {**_COMMON, **general, **_PUBLISHED.get((variant, two_experts), {})}


def complete(parameters: Mapping[str, Value], variant: str, two_experts: bool) -> dict[str, Value]:
    """``parameters`` with the variant's defaults; one ``guidance`` for both experts stays the only one."""
    filled = defaults(variant, two_experts)
    if "guidance" in parameters:
        filled = {name: value for name, value in filled.items() if not name.startswith("guidance_")}
    return {**filled, **parameters}


def check_requires(spec: Spec, version: str) -> None:
    """InvalidRequest when ``spec`` needs a later wanrun than ``version``."""
    if spec.requires is not None and _numbers(version) < _numbers(spec.requires):
        raise InvalidRequest(
            f"this model requires wanrun {spec.requires}, and this is {version}: upgrade wanrun"
        )


def _part(line: ComponentLine, folder: Path, parent: Callable[[str], Spec]) -> Part:
    kind, place = locate(line.reference, folder)
    if kind != "name":
        return Part(line.role, place, _file_name(place))
    found = parent(place).components.get(line.role)
    if found is None:
        raise InvalidRequest(f"model {place!r} has no {line.role} component")
    return found


def _adapter(line: AdapterLine, folder: Path) -> AdapterPart:
    kind, place = locate(line.reference, folder)
    if kind == "name":
        raise InvalidRequest(f"no such file: {line.reference!r}; an adapter is a file, not a model's name")
    return AdapterPart(line.role or "", place, _file_name(place), line.scale)


def _file_name(place: str) -> str:
    return re.split(r"[/\\]", place)[-1]


def _override(
    base: Spec, own: dict[str, Part], adapters: tuple[AdapterPart, ...], modelfile: Modelfile
) -> Spec:
    components, parameters = dict(base.components), dict(base.parameters)
    adapters = adapters or base.adapters
    if "diffusion" in own:
        components = {role: part for role, part in components.items() if role not in EXPERTS}
        parameters = {name: value for name, value in parameters.items() if name not in _OF_EXPERTS}
    elif own.keys() & set(EXPERTS):
        components.pop("diffusion", None)
    return Spec(
        {**components, **own},
        adapters,
        {**parameters, **modelfile.parameters},
        base.template if modelfile.template is None else modelfile.template,
        base.negative if modelfile.negative is None else modelfile.negative,
        base.system if modelfile.system is None else modelfile.system,
        modelfile.licenses or base.licenses,
        modelfile.requires or base.requires,
        modelfile.quantize or (None if own.keys() & set(EXPERTS) else base.quantize),
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(digits) for digits in re.findall(r"\d+", version)[:3])
