"""The benchmarks' random weights are finite and of the size of real ones."""

from __future__ import annotations

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize

from tests.benchmarks.checkpoints import Bytes, random_blocks


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_K", "Q5_K", "Q6_K"])
def test_random_blocks_are_weights_of_unit_gain(kind: str) -> None:
    pool: dict[str, Bytes] = {}
    for shape in ((64, 1024), (32, 4096)):  # the second uses the pool of the first
        packed = random_blocks(kind, shape, pool).reshape(shape[0], -1)
        weights = dequantize(packed, GGMLQuantizationType[kind])
        assert weights.shape == shape
        assert np.isfinite(weights).all()
        assert 0.9 < weights.std() * shape[1] ** 0.5 < 1.1
        assert abs(weights.mean()) < 0.1 * weights.std()
