"""Reuses what a transformer's blocks add to the hidden states, where a rule says that it would hardly change.

Of a forward that is left out, the embeddings, the rule's leading blocks and the head are still computed, so
that the step's own time and input count. Each cache is a rule: magcache, teacache, firstblock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from wanrun.errors import PluginError
from wanrun.sampling.caching import Asked
from wanrun.types import BlockDenoiser, Denoiser
from wanrun.wan.model import straight


@dataclass(frozen=True, slots=True)
class Signal:
    """What a rule may look at, of the first branch of guidance."""

    #: The step of the run, counted from 0.
    place: float
    #: (tokens, width): what the leading blocks add now, and what they added in the last computed forward.
    added: Tensor
    added_before: Tensor | None
    #: (1 or latent frames, width): the time vector now, and at the call before.
    time: Tensor
    time_before: Tensor | None


class Rule(Protocol):
    """When to reuse."""

    #: How many blocks are always computed.
    leading: int

    def reuse(self, numbers: dict[str, float], signal: Signal, must: bool) -> bool:
        """Whether this forward may be left out, never if it ``must`` be computed; updates ``numbers``."""
        ...


@dataclass(slots=True)
class Kept:
    """The tensors of the last computed forward: for each branch what its blocks added."""

    rest: list[Tensor]
    added: Tensor | None = None
    #: Of the last call, computed or not.
    time: Tensor | None = None


class BlockCache:
    """A ``wanrun.sampling.caching.Method`` by ``rule``."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self.forget()

    def forget(self) -> None:
        self.numbers: dict[str, float] = {}
        self._kept = Kept([])

    @property
    def branches(self) -> int:
        return len(self._kept.rest)

    def answer(self, denoiser: Denoiser, asked: Asked, must: bool) -> tuple[list[Tensor], float]:
        if not isinstance(denoiser, BlockDenoiser):
            raise PluginError(
                "this cache works between a model's blocks, and the backend lets nobody there: use easycache"
            )
        walk = _Walk(self._rule, self.numbers, self._kept, asked.place, must)
        answers = denoiser.walked(asked.latents, asked.timestep, asked.contexts, asked.condition, walk)
        self._kept = Kept(walk.rest, walk.added, walk.time)
        return answers, walk.skipped

    def remake(self, denoiser: Denoiser, computed: Asked, last: Asked) -> None:
        self.answer(denoiser, computed, must=True)
        if last.timestep != computed.timestep and isinstance(denoiser, BlockDenoiser):
            listening = _Listening()
            denoiser.walked(last.latents, last.timestep, last.contexts[:1], last.condition, listening)
            self._kept.time = listening.time


class _Walk:
    """Takes one call's hidden states through the blocks, or past most of them; see ``BlockDenoiser``."""

    def __init__(self, rule: Rule, numbers: dict[str, float], kept: Kept, place: float, must: bool) -> None:
        self._rule, self._numbers, self._kept = rule, numbers, kept
        self._place, self._must = place, must
        self._reuse: bool | None = None
        self.rest: list[Tensor] = []
        self.added, self.time = kept.added, kept.time
        self.skipped = 0.0

    def __call__(self, x: Tensor, blocks: Sequence[Callable[[Tensor], Tensor]], time: Tensor) -> Tensor:
        leading = self._rule.leading
        start = straight(x, blocks[:leading], time)
        if self._reuse is None:
            self._reuse = self._decide((start - x)[0], time[0], len(blocks))
        if self._reuse:
            rest = self._kept.rest[len(self.rest) : len(self.rest) + len(x)]
            self.rest += rest
            return start + torch.stack(rest)
        end = straight(start, blocks[leading:], time)
        self.rest += (end - start).unbind(0)
        return end

    def _decide(self, added: Tensor, time: Tensor, blocks: int) -> bool:
        signal = Signal(self._place, added, self._kept.added, time, self._kept.time)
        reuse = self._rule.reuse(self._numbers, signal, self._must)
        self.time = time
        if reuse:
            self.skipped = 1 - self._rule.leading / blocks
        else:
            self.added = added
            self._kept.rest.clear()  # the new ones must not stand beside the old
        return reuse


class _Listening:
    """A walk past all blocks that hears the time vector."""

    def __init__(self) -> None:
        self.time: Tensor | None = None

    def __call__(self, x: Tensor, blocks: Sequence[Callable[[Tensor], Tensor]], time: Tensor) -> Tensor:
        self.time = time[0]
        return x
