"""The fuzzers' limits bite."""

from __future__ import annotations

import pytest

from tests.fuzzing import SPARE_BYTES, limited


def test_memory_is_limited() -> None:
    assert limited(lambda: len(bytearray(SPARE_BYTES // 4)), 0) == SPARE_BYTES // 4
    with pytest.raises(MemoryError):
        limited(lambda: bytearray(SPARE_BYTES * 4), 0)


def test_time_is_limited() -> None:
    def endless() -> None:
        while True:
            pass

    with pytest.raises(TimeoutError):
        limited(endless, 0)
