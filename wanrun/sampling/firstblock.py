"""First-block cache: what the first block does tells whether the others would do anything new.

The first block is always computed. While what it adds differs from what it added in the last computed
forward by less than the threshold, relative and in the mean, what the others had added then is reused. As in
diffusers hooks/first_block_cache.py, after ParaAttention (chengzeyi/ParaAttention).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from wanrun.sampling.blockcache import BlockCache, Signal
from wanrun.sampling.caching import Cached, Span, relative_change
from wanrun.types import Denoiser, Range


class FirstBlock:
    """A ``wanrun.sampling.blockcache.Rule`` without numbers."""

    leading = 1

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold

    def reuse(self, numbers: dict[str, float], signal: Signal, must: bool) -> bool:
        if must or signal.added_before is None:
            return False
        return relative_change(signal.added, signal.added_before) <= self._threshold


def cache(
    denoiser: Denoiser,
    sigmas: Sequence[float],
    boundary: float | None,
    *,
    threshold: Annotated[float, Range(0, 10)] = 0.05,
    warmup: Annotated[float, Range(0, 1)] = 0.1,
) -> Cached:
    """Reuse what all blocks but the first add while the first's work hardly changes; for any model.

    ``threshold`` is that change, ``warmup`` the part of each expert's steps that is always computed.
    """
    return Cached(denoiser, BlockCache(FirstBlock(threshold)), Span(tuple(sigmas), boundary, warmup))
