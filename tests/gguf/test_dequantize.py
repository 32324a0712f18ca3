"""Tests packed weights becoming tensors: through the C library, and by torch alone."""

from __future__ import annotations

import gguf.quants
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from torch import Tensor

from tests.gguf.conftest import Reference
from tests.gguf.test_ggml import UNPACKED, random_blocks
from wanrun.errors import FormatError
from wanrun.gguf.blocks import UNPACK
from wanrun.gguf.dequantize import PLAIN, dequantize, through_torch
from wanrun.gguf.types import SAFETENSORS_TYPES, TYPES, tensor_type


def packed(kind: str, elements: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(random_blocks(kind, elements, seed))


def same_bits(ours: Tensor, theirs: Tensor) -> bool:
    """Equal to the sign of zero; any not-a-number equals any other."""
    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
    known = ~theirs.isnan()
    bits = {4: torch.int32, 2: torch.int16}[theirs.itemsize]
    return torch.equal(ours.isnan(), ~known) and torch.equal(ours.view(bits)[known], theirs.view(bits)[known])


@pytest.mark.parametrize("kind", UNPACKED)
def test_on_the_cpu_every_type_is_the_library_s(kind: str, reference: Reference) -> None:
    number = TYPES[kind].number
    assert number is not None
    source = packed(kind, 61_440)
    theirs = torch.from_numpy(reference(number, source.numpy(), 61_440)).reshape(3, 20, 1024)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        assert same_bits(dequantize(kind, source, (3, 20, 1024), dtype), theirs.to(dtype))


@pytest.mark.parametrize("kind", UNPACK)
def test_torch_alone_gives_the_same_bits(kind: str, reference: Reference) -> None:
    number = TYPES[kind].number
    assert number is not None
    source = packed(kind, 256 * 3000)
    theirs = reference(number, source.numpy(), 256 * 3000)
    assert same_bits(through_torch(kind, source, torch.float32), torch.from_numpy(theirs))
    with np.errstate(all="ignore"):
        package = gguf.quants.dequantize(source.numpy(), GGMLQuantizationType[kind])
    assert np.array_equal(theirs, package, equal_nan=True)


def test_torch_alone_knows_the_common_types() -> None:
    assert set(UNPACK) == {
        "Q4_0",
        "Q4_1",
        "Q5_0",
        "Q5_1",
        "Q8_0",
        "IQ4_NL",
        "IQ4_XS",
        *(f"Q{n}_K" for n in range(2, 7)),
    }
    with pytest.raises(FormatError, match=r"IQ1_S weights can be unpacked on the CPU only.*Q4_K"):
        through_torch("IQ1_S", packed("IQ1_S", 256), torch.float32)


def test_torch_alone_works_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    source = packed("Q4_K", 256 * 10)
    whole = through_torch("Q4_K", source, torch.float32)
    monkeypatch.setattr("wanrun.gguf.dequantize._DEVICE_ELEMENTS", 256 * 3)
    assert same_bits(through_torch("Q4_K", source, torch.float32), whole)


@pytest.mark.parametrize("threads", [1, 3])
def test_large_tensors_are_cast_in_pieces(threads: int) -> None:
    elements = (1 << 20) + 256
    source, before = packed("Q5_K", elements), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        exact = dequantize("Q5_K", source, (elements,), torch.float32)
        assert same_bits(dequantize("Q5_K", source, (elements,), torch.bfloat16), exact.to(torch.bfloat16))
        with torch.inference_mode():  # it is a thread's own
            inside = dequantize("Q5_K", source, (elements,), torch.bfloat16)
        assert same_bits(inside, exact.to(torch.bfloat16))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("kind", PLAIN)
def test_plain_types_are_torch_s(kind: str) -> None:
    stored = PLAIN[kind]
    values = torch.tensor([[0, 1, 2], [1, 0, 4]]).to(torch.float32).to(stored)
    source = values.view(torch.uint8).flatten()
    assert tensor_type(kind).size == stored.itemsize
    ours = dequantize(kind, source, (2, 3), torch.float32)
    assert ours.shape == (2, 3) and torch.equal(ours, values.to(torch.float32))


def test_a_plain_tensor_of_the_right_type_is_not_copied() -> None:
    source = torch.arange(6.0).view(torch.uint8)
    assert dequantize("F32", source, (2, 3), torch.float32).data_ptr() == source.data_ptr()


def test_data_that_begin_at_an_odd_byte() -> None:
    values = torch.arange(4.0)
    source = torch.cat([torch.zeros(3, dtype=torch.uint8), values.view(torch.uint8)])[3:]
    assert torch.equal(dequantize("F32", source, (4,), torch.float32), values)


def test_nothing_at_all() -> None:
    for kind in ("F32", "Q4_0"):
        assert dequantize(kind, torch.empty(0, dtype=torch.uint8), (0, 32), torch.bfloat16).shape == (0, 32)


@pytest.mark.parametrize("kind", ["Q8_1", "F4", "F6_E2M3", "C64"])
def test_what_cannot_be_unpacked_is_named(kind: str) -> None:
    assert kind in TYPES or kind in SAFETENSORS_TYPES
    source = torch.zeros(tensor_type(kind).nbytes(64), dtype=torch.uint8)
    with pytest.raises(FormatError, match=kind):
        dequantize(kind, source, (64,), torch.float32)


@pytest.mark.parametrize(
    ("kind", "shape"), [("F32", (3,)), ("Q4_0", (33,)), ("Q4_0", (64,)), ("F32", (2, 2))]
)
def test_sizes_that_do_not_match_are_refused(kind: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(FormatError, match="do not make shape"):
        dequantize(kind, torch.zeros(18, dtype=torch.uint8), shape, torch.float32)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", UNPACK)
def test_the_gpu_gives_the_same_bits(kind: str) -> None:
    source = packed(kind, 256 * 3000)
    ours = dequantize(kind, source.cuda(), (3000, 256), torch.float32)
    assert same_bits(ours.cpu(), dequantize(kind, source, (3000, 256), torch.float32))
