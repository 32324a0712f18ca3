"""Codes go into blocks as ggml reads them, and errors are made up for as the equations of GPTQ say."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from wanrun.errors import InvalidRequest
from wanrun.gguf.codes import LAYOUTS, grid, put
from wanrun.gguf.compensate import compensated, factors, pack
from wanrun.gguf.ggml import quantize
from wanrun.gguf.imatrix import Moments
from wanrun.gguf.types import tensor_type

Rows = NDArray[np.float32]


def weights(out: int, columns: int, seed: int = 0) -> Rows:
    return np.random.default_rng(seed).standard_normal((out, columns), np.float32)


def unpacked(kind: str, packed: bytes, shape: tuple[int, int]) -> Rows:
    """By the gguf package."""
    blocks = np.frombuffer(packed, np.uint8).reshape(-1, tensor_type(kind).size)
    values: Rows = gguf.dequantize(blocks, gguf.GGMLQuantizationType[kind]).reshape(shape)
    return values


def blocks_of(kind: str, packed: bytes) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(packed, np.uint8).copy()).reshape(-1, tensor_type(kind).size)


@pytest.mark.parametrize("kind", LAYOUTS)
def test_codes_are_put_where_the_gguf_package_finds_them(kind: str) -> None:
    blocks = blocks_of(kind, quantize(kind, weights(3, 512)))
    least, step = grid(kind, blocks)
    codes = torch.randint(0, LAYOUTS[kind].most + 1, least.shape, dtype=torch.uint8)
    made = unpacked(kind, put(kind, blocks, codes).numpy().tobytes(), (6, 256))
    assert np.allclose(made, (least + step * codes).numpy(), rtol=1e-5, atol=1e-6)
    own = torch.from_numpy(unpacked(kind, blocks.numpy().tobytes(), (6, 256)))
    again = ((own - least) / torch.where(step == 0, torch.ones(()), step)).round().to(torch.uint8)
    assert np.array_equal(unpacked(kind, put(kind, blocks, again).numpy().tobytes(), (6, 256)), own.numpy())


def inputs(columns: int, count: int = 4000) -> Rows:
    """Channels that go together, as a network's do."""
    generator = np.random.default_rng(1)
    mixed = generator.standard_normal((count, 24)) @ generator.standard_normal((24, columns))
    return (mixed + 0.3 * generator.standard_normal((count, columns))).astype(np.float32)


def products(x: Rows) -> Rows:
    parts = x.reshape(len(x), -1, 256)
    made: Rows = np.einsum("nbi,nbj->bij", parts, parts)
    return made


@pytest.mark.parametrize("kind", LAYOUTS)
def test_the_layer_loses_less(kind: str) -> None:
    rows, x = weights(32, 512), inputs(512)
    plain = quantize(kind, rows, np.square(x).mean(0))
    better = compensated(kind, plain, rows, factors(products(x)))
    errors = [np.linalg.norm(x @ (unpacked(kind, packed, rows.shape) - rows).T) for packed in (plain, better)]
    assert errors[1] < 0.6 * errors[0]
    assert better == pack(kind, rows, Moments(np.square(x).sum(0), len(x), products(x)))
    assert plain == pack(kind, rows, Moments(np.square(x).sum(0), len(x)))
    assert pack(kind, rows, None) == quantize(kind, rows)


def test_it_is_what_solving_for_the_rest_gives() -> None:
    """At each column the weights that are still free are those of least error given the others."""
    rows, x = weights(2, 256), inputs(256)
    pairs = products(x)
    packed = quantize("Q4_K", rows)
    blocks = blocks_of("Q4_K", packed)
    least, step = (part.double().numpy() for part in grid("Q4_K", blocks))
    damped = pairs[0].astype(float) + 0.01 * np.trace(pairs[0]) / 256 * np.eye(256)
    chosen = np.empty((2, 256))
    for row in range(2):
        for column in range(256):
            wanted = rows[row].astype(float)
            if column:
                off = chosen[row, :column] - wanted[:column]
                wanted[column:] -= np.linalg.solve(damped[column:, column:], damped[column:, :column] @ off)
            code = np.clip(np.round((wanted[column] - least[row, column]) / step[row, column]), 0, 15)
            chosen[row, column] = least[row, column] + step[row, column] * code
    ours = unpacked("Q4_K", compensated("Q4_K", packed, rows, factors(pairs)), (2, 256))
    assert (
        np.mean(np.isclose(ours, chosen, atol=1e-5)) > 0.97
    )  # a tie may fall either way, and what follows it


def test_channels_that_saw_nothing_are_rounded_alone() -> None:
    rows = weights(4, 256)
    packed = quantize("Q5_K", rows)
    same = compensated("Q5_K", packed, rows, factors(np.zeros((1, 256, 256), np.float32)))
    near = unpacked("Q5_K", same, rows.shape)
    assert np.abs(near - rows).max() <= np.abs(unpacked("Q5_K", packed, rows.shape) - rows).max()


def test_what_does_not_fit_is_refused() -> None:
    rows = weights(2, 256)
    with pytest.raises(InvalidRequest, match="cannot be chosen"):
        compensated("Q8_0", quantize("Q8_0", rows), rows, factors(np.zeros((1, 256, 256), np.float32)))
    with pytest.raises(InvalidRequest, match="do not fit"):
        compensated("Q4_K", quantize("Q4_K", rows), rows, torch.zeros(2, 256, 256))
