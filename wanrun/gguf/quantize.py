"""Packs float32 rows with the quantisers of ggml's C library, byte for byte as its own tools do."""

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np
from numpy.typing import NDArray

from wanrun.errors import InvalidRequest
from wanrun.gguf.ggml import check_layout, library
from wanrun.gguf.types import TYPES, TensorType, tensor_type

#: Types whose blocks hold activations in flight; ggml has no chunk quantiser for them.
_NOT_QUANTISED = ("Q8_1", "Q8_K")
FLOATS = ("F32", "F16", "BF16")
#: Every type that the library makes.
MADE = (*FLOATS, *(kind.name for kind in TYPES.values() if kind.number is not None and kind.quantised
                   and kind.name not in _NOT_QUANTISED))  # fmt: skip
#: Below about three bits a weight llama.cpp's tools make nothing without an importance matrix (llama-quant.cpp).
NEED_IMPORTANCE = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS")
_LARGEST_F16 = 65504.0


def quantize(
    kind: str, rows: NDArray[np.float32], importance: NDArray[np.float32] | None = None
) -> NDArray[np.uint8]:
    """The rows of a (…, columns) float32 array as blocks of ``kind``.

    ``importance``, float32 (columns,), says how much an error in each column costs; without one, types for which
    the library insists on it get a uniform one. Runs without Python's global lock. InvalidRequest when columns do
    not divide into blocks, a value does not fit the type, or ggml cannot make it.
    """
    spec, columns = tensor_type(kind), rows.shape[-1] if rows.ndim else 0
    if kind not in MADE:
        raise InvalidRequest(f"ggml does not quantise to {kind}")
    if columns == 0 or columns % spec.block or rows.dtype != np.float32:
        raise InvalidRequest(
            f"{kind} needs float32 rows of whole blocks of {spec.block}, not {rows.dtype} {rows.shape}"
        )
    _check_values(spec, rows)
    if importance is not None:
        importance = _checked(importance, columns)
    elif _insists(kind):
        importance = np.ones(columns, np.float32)
    return _quantize(spec, np.ascontiguousarray(rows), importance)


def _check_values(spec: TensorType, rows: NDArray[np.float32]) -> None:
    if spec.quantised and not np.isfinite(rows).all():
        raise InvalidRequest(f"values that are not finite cannot be quantised to {spec.name}")
    if spec.name == "F16" and rows.size and _LARGEST_F16 < np.abs(rows).max() < np.inf:
        raise InvalidRequest("values beyond 65504 do not fit F16; take BF16 or F32")


def _checked(importance: NDArray[np.float32], columns: int) -> NDArray[np.float32]:
    if importance.shape != (columns,) or importance.dtype != np.float32:
        raise InvalidRequest(
            f"an importance of shape {importance.shape} does not fit rows of {columns} columns"
        )
    if not np.isfinite(importance).all() or (importance < 0).any():
        raise InvalidRequest("importances must be finite and not negative")
    return np.ascontiguousarray(importance)


@cache
def _insists(kind: str) -> bool:
    asks = library().ggml_quantize_requires_imatrix
    asks.restype = ctypes.c_bool
    return bool(asks(tensor_type(kind).number))


@cache
def _function() -> ctypes._CFuncPtr:
    function = library().ggml_quantize_chunk
    function.argtypes = (
        *(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p),
        *(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p),
    )
    function.restype = ctypes.c_size_t
    return function


def _quantize(
    spec: TensorType, rows: NDArray[np.float32], importance: NDArray[np.float32] | None
) -> NDArray[np.uint8]:
    check_layout(spec)
    packed, columns = np.zeros(spec.nbytes(rows.size), np.uint8), rows.shape[-1]
    weights = None if importance is None else importance.ctypes.data
    _function()(
        spec.number, rows.ctypes.data, packed.ctypes.data, 0, rows.size // columns, columns, weights
    )
    return packed
