"""Picks how each matrix is multiplied on the CPU: the fastest way that the memory allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

import torch

from wanrun.gguf import product
from wanrun.gguf.weights import PackedTensor

#: Unpacked once, when the model is loaded; it then takes ``dtype``'s size of memory.
RESIDENT = "resident"
#: Unpacked at each use.
PER_USE = "per use"
#: Multiplied as it is packed, by ggml.
GGML = "ggml"

#: GF/s of one core by way; a way that a type does not have is missing.
Rates = Mapping[str, float]

#: ggml rounds activations to 8 bits, so it has to be this much faster than an exact way to be worth it.
_WORTH = 1.1


def fastest(rates: Rates, room: bool) -> str:
    """The way to multiply, where ``room`` says whether the matrix may stay unpacked."""
    exact = RESIDENT if room else PER_USE
    return GGML if rates.get(GGML, 0.0) > _WORTH * rates.get(exact, 0.0) else exact


class Policy:
    """The ways for one model, asked matrix by matrix while it is loaded.

    ``resident_bytes`` may be spent on matrices that stay unpacked, in the order in which they are asked for.
    ``rates`` gives the speeds of a type in a dtype; without it nothing but exact ways are picked. ``int8``
    is for the loader: whether the matrices that bear it are to be multiplied in 8 bits.
    """

    def __init__(
        self,
        resident_bytes: int = 0,
        rates: Callable[[str, torch.dtype], Rates] | None = None,
        int8: bool = False,
    ) -> None:
        self.left_bytes = resident_bytes
        self.int8 = int8
        self._rates = rates

    def pick(self, weight: PackedTensor, dtype: torch.dtype) -> str:
        """The way for ``weight`` where activations are ``dtype``; counts it where it stays unpacked."""
        needed = prod(weight.shape) * dtype.itemsize
        room = needed <= self.left_bytes
        way = RESIDENT if room else PER_USE
        if self._rates is not None and product.problem(weight.type, weight.data, weight.shape) is None:
            way = fastest(self._rates(weight.type, dtype), room)
        if way == RESIDENT:
            self.left_bytes -= needed
        return way
