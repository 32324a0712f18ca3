"""Refuses adapters that do not fit the experts they are for, by their headers, before anything is copied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from wanrun.errors import InvalidRequest, WanrunError
from wanrun.gguf.header import Header, read_header
from wanrun.modelfile.check import KINDS, Candidate
from wanrun.types import EXPERTS, Bundle
from wanrun.wan.detect import expert_hint, identify
from wanrun.wan.lora_layout import Layout, match_lora
from wanrun.wan.names import canonical


def check_adapters(adapters: Sequence[Candidate], experts: Mapping[str, Candidate]) -> list[Layout]:
    """What each adapter changes; ``experts`` were checked already, and other components are passed over.

    InvalidRequest with every reason why an adapter cannot be applied to its expert.
    """
    headers = {role: read_header(experts[role].path) for role in EXPERTS if role in experts}
    problems: list[str] = list(_given_twice(adapters))
    layouts: list[Layout] = []
    for adapter in adapters:
        try:
            layouts.append(_check(adapter, headers))
        except WanrunError as error:
            # a path of the store tells nobody anything
            reason = str(error).removeprefix(f"{adapter.path} ")
            problems.append(f"adapter {adapter.origin}: {reason}")
    if problems:
        raise InvalidRequest("\n".join(problems))
    return layouts


def adapter_notes(bundle: Bundle) -> list[str]:
    """What is left out of each of the bundle's adapters, for people; most are used whole."""
    headers = {role: read_header(component.path) for role, component in bundle.experts.items()}
    notes = []
    for adapter in bundle.adapters:
        expert = next(header for role, header in headers.items() if adapter.serves(role))
        note = layout_of(read_header(adapter.component.path), expert).note
        if note is not None:
            notes.append(f"{adapter.component.origin}: {note}")
    return notes


def layout_of(adapter: Header, expert: Header) -> Layout:
    """What the file ``adapter`` changes in the transformer ``expert``; FormatError as ``match_lora``."""
    names = canonical(expert.tensors)
    return match_lora(adapter, {name: expert.tensors[stored].shape for name, stored in names.items()})


def _check(adapter: Candidate, experts: Mapping[str, Header]) -> Layout:
    served = [role for role in experts if adapter.role in ("", role)]
    if not served:
        raise InvalidRequest(
            f"it is for {adapter.role}, and the model has {' and '.join(experts) or 'no expert'}"
        )
    header = read_header(adapter.path)
    identity = identify(header)
    if identity.kind != "adapter":
        raise InvalidRequest(f"this is {KINDS[identity.kind]}, not {KINDS['adapter']}")
    hint = expert_hint(adapter.origin)
    if hint is not None and len(experts) == 2 and adapter.role != hint:
        raise InvalidRequest(
            f"by its name this is for the {hint} expert alone: write ADAPTER {hint} {adapter.origin}"
        )
    # the experts have the same shapes
    return layout_of(header, experts[served[0]])


def _given_twice(adapters: Sequence[Candidate]) -> Iterator[str]:
    for index, one in enumerate(adapters):
        for other in adapters[:index]:
            if not (one.path.exists() and other.path.exists() and one.path.samefile(other.path)):
                continue
            if {one.role, other.role} == {"high_noise", "low_noise"}:
                yield (
                    f"adapter {one.origin} is given for both experts: few-step adapters have a file for "
                    "each; one that is meant for both is named once, without an expert"
                )
            else:
                yield f"adapter {one.origin} is given twice: give it once, with the scale that is wanted"
