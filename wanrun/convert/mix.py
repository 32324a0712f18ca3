"""Solves for the types of a model's matrices that cost its videos least within a size."""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, log, prod
from statistics import fmean

from wanrun.convert.knapsack import Option, pick
from wanrun.gguf.header import Header
from wanrun.gguf.types import tensor_type
from wanrun.wan.mixes import choose, find_mix
from wanrun.wan.names import canonical
from wanrun.wan.recipe import Recipe

#: Quantising to it is taken to cost nothing: it is what models are published in.
EXACT = "F16"


def standard_bytes(header: Header, mix: str) -> int:
    """What the matrices that mixes quantise take in the standard recipe ``mix``, a name of MIXES."""
    wanted = find_mix(mix)
    total = 0
    for name, stored in canonical(header.tensors).items():
        shape = header.tensors[stored].shape
        kind = choose(wanted, name, shape)
        total += 0 if kind is None else tensor_type(kind).nbytes(prod(shape))
    return total


def other_bytes(header: Header) -> int:
    """What all other tensors take as they are."""
    return sum(
        header.tensors[stored].nbytes
        for name, stored in canonical(header.tensors).items()
        if choose(find_mix(EXACT), name, header.tensors[stored].shape) is None
    )


def smoothed(errors: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """``errors`` with the chance of few videos taken out: each is the matrix's share times the type's.

    A solver would pick what few videos flatter. The logarithms are fitted by a number of the matrix plus one
    of the type, so that all types' measurements of a matrix count for each. An error of 0 stays.
    """
    logs = {name: {kind: log(e) for kind, e in costs.items() if e > 0} for name, costs in errors.items()}
    kinds = {kind for costs in logs.values() for kind in costs}
    level = {kind: fmean(costs[kind] for costs in logs.values() if kind in costs) for kind in kinds}
    found = {}
    for name, costs in errors.items():
        own = fmean(value - level[kind] for kind, value in logs[name].items()) if logs[name] else 0.0
        found[name] = {kind: exp(own + level[kind]) if error > 0 else 0.0 for kind, error in costs.items()}
    return found


def solve(
    header: Header,
    errors: Mapping[str, Mapping[str, float]],
    budget: int,
    base: str,
    about: Mapping[str, object],
) -> Recipe:
    """The recipe of least summed error whose matrices take at most ``budget`` bytes.

    ``errors`` are those of ``wanrun.convert.sensitivity`` for one expert, which are ``smoothed``. Errors of
    matrices add up while they are small, as those of rounding have no common direction. Raises
    InvalidRequest when nothing fits.
    """
    names = canonical(header.tensors)
    groups: dict[str, list[tuple[str, Option]]] = {}
    for name, costs in smoothed(errors).items():
        elements = prod(header.tensors[names[name]].shape)
        groups[name] = [
            (kind, Option(tensor_type(kind).nbytes(elements), cost))
            for kind, cost in {**costs, EXACT: 0.0}.items()
        ]
    picked = pick([[option for _, option in group] for group in groups.values()], budget)
    chosen = {name: group[index] for (name, group), index in zip(groups.items(), picked, strict=True)}
    facts = {
        **about,
        "bytes": sum(option.size for _, option in chosen.values()),
        "error": sum(option.cost for _, option in chosen.values()),
    }
    return Recipe(tuple((name, kind) for name, (kind, _) in chosen.items()), base, facts)
