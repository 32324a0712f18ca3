"""Puts a matrix of the expert that is in memory in another type."""

from __future__ import annotations

import weakref
from typing import cast

from torch import Tensor

from wanrun.gguf.linear import QuantLinear
from wanrun.gguf.weights import PackedTensor
from wanrun.wan.lora import AdaptedLinear
from wanrun.wan.model import WanModel


class Substitute:
    """One matrix of one expert, which stands in its place however often the expert is read again."""

    def __init__(self) -> None:
        #: The expert that is in memory, or was last.
        self.role = ""
        self._model: weakref.ref[WanModel] | None = None  # the next expert needs its memory
        self._wanted: tuple[str, str, PackedTensor] | None = None

    def on_load(self, role: str, model: WanModel) -> None:
        """To be told of each expert that is read."""
        self.role, self._model = role, weakref.ref(model)
        self._place()

    def put(self, role: str, layer: str, packed: PackedTensor) -> None:
        """Have ``packed`` for the weight of ``layer`` in the expert ``role``, from now on."""
        self._wanted = role, layer, packed
        self._place()

    def _place(self) -> None:
        model = None if self._model is None else self._model()
        if model is None or self._wanted is None or self._wanted[0] != self.role:
            return
        _, name, packed = self._wanted
        layer = model.get_submodule(name)
        if isinstance(layer, AdaptedLinear):
            name, layer = f"{name}.base", layer.base
        model.set_submodule(name, QuantLinear(packed, cast("Tensor | None", layer.bias), model.dtype))
