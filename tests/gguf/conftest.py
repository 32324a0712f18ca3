"""Gives the tests of gguf/ the C library through a binding of their own."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import llama_cpp
import numpy as np
import pytest
from numpy.typing import NDArray

Reference = Callable[[int, "NDArray[np.uint8]", int], "NDArray[np.float32]"]


class _Traits(ctypes.Structure):
    """``struct ggml_type_traits`` of the llama.cpp that these tests were written for."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("block", ctypes.c_int64),
        ("interleave", ctypes.c_int64),
        ("size", ctypes.c_size_t),
        ("quantised", ctypes.c_bool),
        ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
    )


@pytest.fixture(scope="session")
def base_library() -> ctypes.CDLL:
    return ctypes.CDLL(str(Path(llama_cpp.__file__).parent / "lib" / "libggml-base.so"))


@pytest.fixture(scope="session")
def reference(base_library: ctypes.CDLL) -> Reference:
    """(type number, blocks, elements) -> float32 by ``ggml_get_type_traits(type)->to_float``."""
    base_library.ggml_get_type_traits.restype = ctypes.POINTER(_Traits)

    def to_float(number: int, packed: NDArray[np.uint8], elements: int) -> NDArray[np.float32]:
        out = np.full(elements, 123.0, np.float32)
        traits = base_library.ggml_get_type_traits(number).contents
        traits.to_float(packed.ctypes.data, out.ctypes.data, elements)
        return out

    return to_float
