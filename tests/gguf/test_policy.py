"""Which way a matrix is multiplied: by speed, by room, and never inexactly without being asked."""

from __future__ import annotations

import pytest
import torch

from tests.gguf.test_product import SHAPE, packed
from wanrun.gguf.policy import GGML, PER_USE, RESIDENT, Policy, Rates, fastest
from wanrun.gguf.weights import PackedTensor

FAST_GGML: Rates = {RESIDENT: 200.0, PER_USE: 180.0, GGML: 230.0}
SLOW_GGML: Rates = {RESIDENT: 200.0, PER_USE: 180.0, GGML: 100.0}


@pytest.mark.parametrize(
    ("rates", "room", "way"),
    [
        (FAST_GGML, True, GGML),
        (FAST_GGML, False, GGML),
        (SLOW_GGML, True, RESIDENT),
        (SLOW_GGML, False, PER_USE),
        ({RESIDENT: 200.0, PER_USE: 180.0, GGML: 210.0}, True, RESIDENT),  # too little to round for
        ({RESIDENT: 200.0, PER_USE: 180.0, GGML: 210.0}, False, GGML),
        ({RESIDENT: 200.0, PER_USE: 180.0}, False, PER_USE),
    ],
)
def test_the_fastest_way_that_is_worth_it(rates: Rates, room: bool, way: str) -> None:
    assert fastest(rates, room) == way


def weight(offset: int = 0) -> PackedTensor:
    return PackedTensor("Q4_K", SHAPE, packed("Q4_K", offset))


def test_room_is_spent_in_order_until_it_is_gone() -> None:
    needed = 2 * SHAPE[0] * SHAPE[1]
    policy = Policy(2 * needed + 1)
    ways = [policy.pick(weight(), torch.bfloat16) for _ in range(3)]
    assert ways == [RESIDENT, RESIDENT, PER_USE]
    assert policy.left_bytes == 1
    assert Policy(needed).pick(weight(), torch.float32) == PER_USE


def test_ggml_takes_no_room() -> None:
    policy = Policy(1 << 30, lambda kind, dtype: FAST_GGML)
    assert policy.pick(weight(), torch.bfloat16) == GGML
    assert policy.left_bytes == 1 << 30


def test_ggml_is_not_picked_where_it_cannot_be_used_or_nobody_asked() -> None:
    assert Policy(0, lambda kind, dtype: FAST_GGML).pick(weight(offset=8), torch.bfloat16) == PER_USE
    assert Policy(0).pick(weight(), torch.bfloat16) == PER_USE
