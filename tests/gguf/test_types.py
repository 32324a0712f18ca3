"""Tests the table of tensor types against ggml and the gguf package."""

from __future__ import annotations

import ctypes

import pytest
from gguf import GGML_QUANT_SIZES

from wanrun.errors import FormatError
from wanrun.gguf.types import GGML_TYPES, SAFETENSORS_TYPES, TYPES, tensor_type


def test_table_is_ggml_s_own(base_library: ctypes.CDLL) -> None:
    base_library.ggml_type_name.restype = ctypes.c_char_p
    base_library.ggml_blck_size.restype = ctypes.c_int64
    base_library.ggml_type_size.restype = ctypes.c_size_t
    theirs = {}
    for number in range(43):
        size = base_library.ggml_type_size(number)
        if size:
            name = base_library.ggml_type_name(number).decode().upper()
            theirs[number] = (name, base_library.ggml_blck_size(number), size)
    assert theirs == {number: (kind.name, kind.block, kind.size) for number, kind in GGML_TYPES.items()}


def test_table_agrees_with_the_gguf_package() -> None:
    for kind, (block, size) in GGML_QUANT_SIZES.items():
        if kind.name == "Q8_1":
            continue  # 40 there: it counts two float32, where ggml's struct has two float16
        ours = GGML_TYPES[int(kind)]
        assert (ours.name, ours.block, ours.size) == (kind.name, block, size)


def test_names_are_unique_and_sizes_follow_blocks() -> None:
    assert len(TYPES) == len(GGML_TYPES) + len([t for t in SAFETENSORS_TYPES.values() if t.number is None])
    assert tensor_type("Q4_K").nbytes(512) == 288
    assert tensor_type("Q4_K").quantised and not tensor_type("BF16").quantised


def test_unknown_name_is_a_format_error() -> None:
    with pytest.raises(FormatError, match="'Q9_Z'"):
        tensor_type("Q9_Z")
