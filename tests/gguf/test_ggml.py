"""Tests the binding of the C library: bit-equal to the library called otherwise, and to the gguf package."""

from __future__ import annotations

import mmap
import threading
import time
from pathlib import Path

import gguf.quants
import numpy as np
import pytest
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from tests.gguf.conftest import Reference
from wanrun.errors import FormatError, InvalidRequest
from wanrun.gguf import ggml
from wanrun.gguf.types import GGML_TYPES, TYPES, tensor_type

#: All that ggml can unpack, by the table of traits of the version these tests were written for.
UNPACKED = [
    *("F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"),
    *("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS"),
    *("TQ1_0", "TQ2_0", "MXFP4", "NVFP4", "Q1_0", "Q2_0"),
]
#: What the gguf package can unpack too.
KNOWN = [kind for kind in UNPACKED if kind not in ("Q1_0", "Q2_0")]
#: What is quantised here: without those whose search tables ggml takes seconds to build.
MADE = [kind for kind in UNPACKED if kind not in ("F16", "BF16", "IQ1_S", "IQ1_M", "IQ2_S", "IQ2_XS")]


def random_blocks(kind: str, elements: int, seed: int = 0) -> NDArray[np.uint8]:
    """Any bytes are blocks: infinite scales, odd indices and all."""
    return np.random.default_rng(seed).integers(0, 256, tensor_type(kind).nbytes(elements), np.uint8)


def rows(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def unpack(kind: str, packed: NDArray[np.uint8], elements: int, threads: int = 1) -> NDArray[np.float32]:
    out = np.full(elements, -1, np.float32)
    ggml.dequantize(kind, packed, out, threads)
    return out


@pytest.mark.parametrize("kind", UNPACKED)
def test_every_type_is_bit_equal_to_the_library(kind: str, reference: Reference) -> None:
    number = TYPES[kind].number
    assert number is not None
    packed = random_blocks(kind, 51_200)
    assert unpack(kind, packed, 51_200).tobytes() == reference(number, packed, 51_200).tobytes()


@pytest.mark.parametrize("kind", KNOWN)
def test_every_type_agrees_with_the_gguf_package(kind: str) -> None:
    packed = random_blocks(kind, 51_200)
    with np.errstate(all="ignore"):
        theirs = gguf.quants.dequantize(packed.reshape(50, -1), GGMLQuantizationType[kind]).reshape(-1)
    assert np.array_equal(unpack(kind, packed, 51_200), theirs, equal_nan=True)


def test_the_list_of_types_is_complete(reference: Reference) -> None:
    """Whatever the library exports a routine for, we unpack; the rest is refused by name."""
    base = ggml.library()
    for kind in GGML_TYPES.values():
        exported = hasattr(base, "dequantize_row_" + kind.name.lower().replace("_k", "_K"))
        if exported or kind.name in UNPACKED:
            assert kind.name in [*UNPACKED, "Q8_K"]
        else:
            with pytest.raises(FormatError, match=f"cannot dequantise {kind.name}"):
                ggml.row_function(kind.name)
    with pytest.raises(FormatError, match="ggml has no type F8_E4M3"):
        ggml.row_function("F8_E4M3")


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_threads_change_nothing(threads: int) -> None:
    elements = (1 << 20) + 256
    packed = random_blocks("Q4_K", elements)
    assert unpack("Q4_K", packed, elements, threads).tobytes() == unpack("Q4_K", packed, elements).tobytes()


@pytest.mark.parametrize("elements", [0, 1, 255, 256, 257, 1 << 18, (1 << 20) + 3])
@pytest.mark.parametrize("threads", [1, 2, 7])
def test_spans_cover_all_once(elements: int, threads: int) -> None:
    covered = np.zeros(elements, np.uint8)
    lock = threading.Lock()
    seen: list[tuple[int, int]] = []

    def work(span: tuple[int, int]) -> None:
        covered[span[0] : sum(span)] += 1
        with lock:
            seen.append(span)

    ggml.run_spans(work, elements, threads)
    assert covered.all() and covered.sum() == elements
    assert len(seen) <= threads and all(first % 256 == 0 for first, _ in seen)


def test_a_mapped_file_is_unpacked_where_it_lies(tmp_path: Path) -> None:
    packed = random_blocks("Q8_0", 4096)
    (tmp_path / "w").write_bytes(bytes(64) + packed.tobytes())
    with (tmp_path / "w").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        out = np.empty((4, 1024), np.float32)
        with memoryview(mapped) as view:
            ggml.dequantize("Q8_0", view[64:], out)
        assert out.tobytes() == unpack("Q8_0", packed, 4096).tobytes()


def test_other_threads_run_meanwhile() -> None:
    """The C routine holds no lock of Python: a counter goes on while one long call runs."""
    elements = 1 << 24
    packed, out = random_blocks("Q6_K", elements), np.empty(elements, np.float32)
    out[:] = 0
    ticks, done = 0, threading.Event()

    def call() -> None:
        ggml.dequantize("Q6_K", packed, out)
        done.set()

    thread = threading.Thread(target=call)
    thread.start()
    while not done.is_set():
        ticks += 1
        time.sleep(0.0001)
    thread.join()
    assert ticks > 3


@pytest.mark.parametrize("kind", MADE)
def test_quantised_rows_come_back_close(kind: str) -> None:
    """The relative error falls with the bits; a wrong row order or offset would give more than 1."""
    values = rows((4, 512))
    blocks = ggml.quantize(kind, values)
    assert len(blocks) == TYPES[kind].nbytes(values.size)
    back = unpack(kind, np.frombuffer(blocks, np.uint8), values.size).reshape(values.shape)
    error = float(np.linalg.norm(back - values) / np.linalg.norm(values))
    bits = 8 * TYPES[kind].size / TYPES[kind].block
    assert error < 2.0 ** (1.3 - bits / 1.45) + 0.02, (error, bits)


def test_float_types_are_rounded() -> None:
    values = rows((2, 3))
    assert ggml.quantize("F32", values) == values.tobytes()
    assert ggml.quantize("F16", values) == values.astype(np.float16).tobytes()
    assert len(ggml.quantize("BF16", values)) == 12


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("Q4_0", rows((2, 33))),
        ("Q4_K", rows((2, 128))),
        ("Q8_1", rows((2, 32))),
        ("Q8_K", rows((2, 256))),
        ("I32", rows((2, 32))),
        ("F8_E4M3", rows((2, 32))),
        ("Q4_0", rows((2, 0))),
        ("Q4_0", np.zeros((2, 32), np.float64)),
        ("Q4_0", np.full((1, 32), np.nan, np.float32)),
        ("IQ2_XS", np.full((1, 256), np.inf, np.float32)),
    ],
)
def test_the_library_s_assertions_are_never_reached(kind: str, values: NDArray[np.float32]) -> None:
    with pytest.raises(InvalidRequest):
        ggml.quantize(kind, values)


def test_sizes_that_do_not_match_are_refused() -> None:
    packed = random_blocks("Q4_0", 64)
    for wrong in (np.empty(32, np.float32), np.empty(96, np.float32), np.empty(63, np.float32)):
        with pytest.raises(FormatError, match="do not make"):
            ggml.dequantize("Q4_0", packed, wrong)
    readonly = np.empty(64, np.float32)
    readonly.flags.writeable = False
    for unfit in (readonly, np.empty((64, 2), np.float32)[:, 0]):
        with pytest.raises(InvalidRequest, match="contiguous"):
            ggml.dequantize("Q4_0", packed, unfit)
