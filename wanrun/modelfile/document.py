"""A Modelfile as a value: its lines, before anything is looked up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from wanrun.modelfile.parameters import Value


@dataclass(frozen=True, slots=True)
class ComponentLine:
    """A file of the bundle: ``role`` is one of ``wanrun.types.ROLES``."""

    role: str
    reference: str


@dataclass(frozen=True, slots=True)
class AdapterLine:
    """A LoRA for one expert, or for the whole model when ``role`` is None."""

    reference: str
    role: str | None = None
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Modelfile:
    """What a Modelfile says, lines of a kind in their order; None where it says nothing."""

    from_: str | None = None
    components: tuple[ComponentLine, ...] = ()
    adapters: tuple[AdapterLine, ...] = ()
    parameters: Mapping[str, Value] = field(default_factory=dict)
    template: str | None = None
    negative: str | None = None
    system: str | None = None
    licenses: tuple[str, ...] = ()
    requires: str | None = None
    #: The type that the experts are quantised to when the bundle is made, such as Q4_K_M.
    quantize: str | None = None
