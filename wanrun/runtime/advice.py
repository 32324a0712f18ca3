"""Finds the settings nearest to a request that does not fit which do, each as what the user would type."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from wanrun.errors import InvalidRequest
from wanrun.modelfile import library
from wanrun.runtime.planner import Plan
from wanrun.store.names import parse_name
from wanrun.types import GenerationRequest
from wanrun.wan.mixes import MIXES

#: Plans the request with changes: ``size``, ``frames``, ``decoder``, or ``quant`` for the experts' mix.
Replan = Callable[[Mapping[str, Any]], Plan]


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Settings that fit: ``changes`` as ``Replan`` takes them, ``text`` to be typed, and what they need."""

    text: str
    changes: Mapping[str, Any]
    plan: Plan


def nearest(name: str, request: GenerationRequest, tiny: bool, replan: Replan) -> list[Suggestion]:
    """For each setting that can help alone its largest value that fits; if none can, a combination.

    ``name`` is the bundle's, ``tiny`` whether it has a tiny decoder.
    """
    ways: list[Iterator[dict[str, Any]]] = [_quants(name)]
    decoder: dict[str, Any] = {"decoder": "tiny"} if tiny and request.decoder != "tiny" else {}
    if decoder:
        ways.append(iter([decoder]))
    ways += [_sizes(request), _frames(request)]
    found = [each for each in (_first(name, way, replan) for way in ways) if each is not None]
    if found:
        return found
    combined = (decoder | frames | size for size in _sizes(request) for frames in ({"frames": 1}, {}))
    last = _first(name, combined, replan)
    return [last] if last is not None else []


def explain(plan: Plan, found: list[Suggestion], told: bool) -> str:
    """The error's text: the peak, the limit, and what fits."""
    on_device = plan.device_memory > plan.device_limit
    peak, limit = (plan.device_memory, plan.device_limit) if on_device else (plan.memory, plan.limit)
    where = f"{plan.device} memory" if on_device else "memory"
    whose = "is allowed" if told else "is free"
    lines = [
        f"this run needs {gigabytes(peak)} of {where} ({plan.worst.name}) and {gigabytes(limit)} {whose}."
    ]
    if not found:
        lines.append("Nothing smaller that the model can do fits: free some memory, or raise --memory.")
        return "\n".join(lines)
    lines.append("It fits with" + (" any of these:" if len(found) > 1 else ":"))
    lines += [f"  {each.text}  ({gigabytes(each.plan.memory)})" for each in found]
    return "\n".join(lines)


def gigabytes(size: int) -> str:
    """``412 MB``, ``5.31 GB``: decimal units, as ``--memory`` takes them."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _first(name: str, changes: Iterator[dict[str, Any]], replan: Replan) -> Suggestion | None:
    for change in changes:
        planned = replan(change)
        if planned.fits:
            return Suggestion(typed(name, change), change, planned)
    return None


def typed(name: str, changes: Mapping[str, Any]) -> str:
    """The options, or the model's name, that make ``changes``."""
    words = []
    for key, value in changes.items():
        if key == "quant":
            words.append(str(parse_name(name)).partition(":")[0] + f":{value}")
        else:
            words.append(f"--{key} {'x'.join(map(str, value)) if key == 'size' else value}")
    return " ".join(words)


def _quants(name: str) -> Iterator[dict[str, Any]]:
    """The library's quants of the model, from the largest down."""
    with suppress(InvalidRequest):  # a bundle that was made by hand may have any name
        for tag in reversed(library.tags(parse_name(name).model)):
            if tag.upper() in MIXES:
                yield {"quant": tag}


def _sizes(request: GenerationRequest) -> Iterator[dict[str, Any]]:
    """Smaller sizes of about the same shape, from the largest down."""
    step = 2 * request.height // request.latent_shape[2]
    for height in range(request.height - step, 0, -step):
        width = max(step, step * round(request.width * height / request.height / step))
        if width * height >= step * step:
            yield {"size": (width, height)}


def _frames(request: GenerationRequest) -> Iterator[dict[str, Any]]:
    """Fewer frames, from the most down."""
    for frames in range(request.frames - 4, 0, -4):
        yield {"frames": frames}
