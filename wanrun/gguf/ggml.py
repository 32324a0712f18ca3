"""Calls the quantisation routines of the ggml library that ships inside llama-cpp-python.

Only exported functions with plain arguments are used, no struct is read, and block sizes are compared with
the library's own before a type is used, so a library that changes its layout is refused instead of misread.
The routines run without Python's global lock. Measured on one Zen 4 core: 3 to 4 · 10⁹ elements a second.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from wanrun.errors import FormatError, InvalidRequest, WanrunError
from wanrun.gguf.types import GGML_TYPES, TensorType, tensor_type

#: Unpacks elements: (address of the blocks, address of the float32 output, number of elements).
RowFunction: TypeAlias = Callable[[int, int, int], None]

#: Every block size divides it, so work may be cut at its multiples.
CUT = 256
_THREAD_ELEMENTS = 1 << 18
#: Types whose blocks hold activations in flight; ggml has no chunk quantiser for them.
_NOT_QUANTISED = ("Q8_1", "Q8_K")
#: Every type that ``quantize`` makes.
MADE = (
    *("F32", "F16", "BF16"),
    *(kind.name for kind in GGML_TYPES.values() if kind.quantised and kind.name not in _NOT_QUANTISED),
)
#: Of these llama.cpp's tools make nothing without an importance matrix (llama-quant.cpp).
NEED_IMPORTANCE = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS")
_LARGEST_F16 = 65504.0


@cache
def library(part: str = "ggml-base") -> ctypes.CDLL:
    """A C library of ggml's, loaded once; llama_cpp itself is not imported. WanrunError if it is missing."""
    spec = find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        raise WanrunError("llama-cpp-python is not installed; run: pip install llama-cpp-python")
    folder = Path(spec.origin).parent / "lib"
    names = [f"lib{part}.so", f"lib{part}.dylib", f"{part}.dll", f"lib{part}.dll"]
    for name in names:
        if (folder / name).is_file():
            return ctypes.CDLL(str(folder / name))
    raise WanrunError(f"none of {', '.join(names)} lies in {folder}; install llama-cpp-python again")


@cache
def row_function(kind: str) -> RowFunction:
    """The routine that unpacks ``kind`` to float32; FormatError when the library has none."""
    special = {"F16": "ggml_fp16_to_fp32_row", "BF16": "ggml_bf16_to_fp32_row"}
    symbol = special.get(kind) or "dequantize_row_" + kind.lower().replace("_k", "_K")
    check_layout(tensor_type(kind))
    try:
        function = library()[symbol]
    except AttributeError:
        raise FormatError(f"ggml cannot dequantise {kind}; a newer llama-cpp-python may") from None
    function.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    function.restype = None
    return function


def check_layout(kind: TensorType) -> None:
    """FormatError when the library's blocks of ``kind`` are not ours."""
    if kind.number is None:
        raise FormatError(f"ggml has no type {kind.name}")
    base = library()
    base.ggml_blck_size.restype = ctypes.c_int64
    base.ggml_type_size.restype = ctypes.c_size_t
    found = base.ggml_blck_size(kind.number), base.ggml_type_size(kind.number)
    if found != (kind.block, kind.size):
        raise FormatError(
            f"ggml's {kind.name} blocks are {found} elements and bytes, not {kind.block}, {kind.size}"
        )


def dequantize(
    kind: str, source: bytes | memoryview | NDArray[np.uint8], out: NDArray[np.float32], threads: int = 1
) -> None:
    """Unpack ``source``, the blocks of ``kind``, into ``out``, contiguous float32 of as many elements.

    ``source`` may be a view of a mapped file and is not copied. FormatError when the sizes do not match or
    ggml cannot unpack the type.
    """
    function = row_function(kind)
    packed = np.frombuffer(source, np.uint8)
    block, size = tensor_type(kind).block, tensor_type(kind).size
    if out.dtype != np.float32 or not out.flags.c_contiguous or not out.flags.writeable:
        raise InvalidRequest("dequantised values go to a contiguous, writable float32 array")
    if out.size % block or packed.size != out.size // block * size:
        raise FormatError(f"{packed.size} bytes of {kind} do not make {out.size} elements")

    def unpack(span: tuple[int, int]) -> None:
        first, count = span
        function(packed.ctypes.data + first // block * size, out.ctypes.data + 4 * first, count)

    run_spans(unpack, out.size, threads)


def run_spans(work: Callable[[tuple[int, int]], None], elements: int, threads: int) -> None:
    """Call ``work`` with (first element, number) of at most ``threads`` spans covering all, side by side."""
    run_all(work, list(_spans(elements, min(threads, -(-elements // _THREAD_ELEMENTS)))))


def run_all(work: Callable[[tuple[int, int]], None], spans: Sequence[tuple[int, int]]) -> None:
    """Call ``work`` with each of ``spans``, each in a thread of its own if there are two or more."""
    if len(spans) <= 1:
        for span in spans:
            work(span)
        return
    # a fresh pool each time, so that a forked process finds live threads
    with ThreadPoolExecutor(len(spans)) as pool:
        list(pool.map(work, spans))


def _spans(elements: int, parts: int) -> Iterator[tuple[int, int]]:
    step = max(1, -(-elements // (max(parts, 1) * CUT))) * CUT
    for first in range(0, elements, step):
        yield first, min(step, elements - first)


def quantize(kind: str, rows: NDArray[np.float32], importance: NDArray[np.float32] | None = None) -> bytes:
    """The rows of a (…, columns) float32 array as blocks of ``kind``, as ggml's own tools pack them.

    ``importance``, float32 (columns,), says what an error in each column costs; without one, types for which
    the library insists on it get a uniform one. InvalidRequest when columns do not divide into blocks, a
    value does not fit the type, or ggml cannot make the type.
    """
    spec, columns = tensor_type(kind), rows.shape[-1] if rows.ndim else 0
    if kind not in MADE:
        raise InvalidRequest(f"ggml does not quantise to {kind}")
    if columns == 0 or columns % spec.block or rows.dtype != np.float32:
        raise InvalidRequest(
            f"{kind} needs float32 rows of whole blocks of {spec.block}, not {rows.dtype} {rows.shape}"
        )
    if spec.quantised and not np.isfinite(rows).all():
        raise InvalidRequest(f"values that are not finite cannot be quantised to {kind}")
    if kind == "F16" and _LARGEST_F16 < np.abs(rows).max() < np.inf:
        raise InvalidRequest("values beyond 65504 do not fit F16; take BF16 or F32")
    check_layout(spec)
    if importance is not None:
        importance = _checked(importance, columns)
    elif _insists(spec):
        importance = np.ones(columns, np.float32)
    return _quantize_chunk(spec, np.ascontiguousarray(rows), importance)


def _checked(importance: NDArray[np.float32], columns: int) -> NDArray[np.float32]:
    if importance.shape != (columns,) or importance.dtype != np.float32:
        raise InvalidRequest(f"{importance.shape} importances do not fit rows of {columns} columns")
    if not (np.isfinite(importance) & (importance >= 0)).all():
        raise InvalidRequest("importances must be finite and not negative")
    return np.ascontiguousarray(importance)


def _insists(spec: TensorType) -> bool:
    asks = library().ggml_quantize_requires_imatrix
    asks.restype = ctypes.c_bool
    return bool(asks(spec.number))


def _quantize_chunk(
    spec: TensorType, rows: NDArray[np.float32], importance: NDArray[np.float32] | None
) -> bytes:
    pack, columns = library().ggml_quantize_chunk, rows.shape[-1]
    packed = np.zeros(spec.nbytes(rows.size), np.uint8)
    pack.argtypes = (
        *(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p),
        *(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p),
    )
    pack.restype = ctypes.c_size_t
    weights = None if importance is None else importance.ctypes.data
    pack(spec.number, rows.ctypes.data, packed.ctypes.data, 0, rows.size // columns, columns, weights)
    return packed.tobytes()
