"""Adds up what a model file holds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from wanrun.gguf.header import Header


@dataclass(frozen=True, slots=True)
class TypeSum:
    """All tensors of one type: how many, their elements and bytes."""

    type: str
    tensors: int
    elements: int
    nbytes: int


def sums_by_type(header: Header) -> list[TypeSum]:
    """What the file holds of each tensor type, most bytes first."""
    sums: dict[str, tuple[int, int, int]] = {}
    for tensor in header.tensors.values():
        count, elements, nbytes = sums.get(tensor.type, (0, 0, 0))
        sums[tensor.type] = (count + 1, elements + math.prod(tensor.shape), nbytes + tensor.nbytes)
    return sorted((TypeSum(name, *sum_) for name, sum_ in sums.items()), key=lambda sum_: -sum_.nbytes)


def parameter_count(header: Header) -> int:
    """Elements of all tensors."""
    return sum(math.prod(tensor.shape) for tensor in header.tensors.values())
