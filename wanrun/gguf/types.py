"""Names every tensor type that GGUF and safetensors files store, with its block size.

Numbers and block sizes follow ``enum ggml_type`` and the block structs of llama.cpp
(``ggml/include/ggml.h``, ``ggml/src/ggml-common.h``); the names of types that only safetensors has follow
the ``safetensors`` crate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from wanrun.errors import FormatError


@dataclass(frozen=True, slots=True)
class TensorType:
    """A storage type: ``block`` elements take ``size`` bytes.

    ``number`` is ggml's, None for a type that only safetensors files have.
    """

    name: str
    number: int | None
    block: int
    size: int

    @property
    def quantised(self) -> bool:
        """Whether elements share a block, so that single ones cannot be addressed."""
        return self.block > 1

    def nbytes(self, elements: int) -> int:
        """Bytes that ``elements`` take; ``elements`` must be whole blocks."""
        return elements // self.block * self.size


_GGML = (
    TensorType("F32", 0, 1, 4),
    TensorType("F16", 1, 1, 2),
    TensorType("Q4_0", 2, 32, 18),
    TensorType("Q4_1", 3, 32, 20),
    TensorType("Q5_0", 6, 32, 22),
    TensorType("Q5_1", 7, 32, 24),
    TensorType("Q8_0", 8, 32, 34),
    TensorType("Q8_1", 9, 32, 36),
    TensorType("Q2_K", 10, 256, 84),
    TensorType("Q3_K", 11, 256, 110),
    TensorType("Q4_K", 12, 256, 144),
    TensorType("Q5_K", 13, 256, 176),
    TensorType("Q6_K", 14, 256, 210),
    TensorType("Q8_K", 15, 256, 292),
    TensorType("IQ2_XXS", 16, 256, 66),
    TensorType("IQ2_XS", 17, 256, 74),
    TensorType("IQ3_XXS", 18, 256, 98),
    TensorType("IQ1_S", 19, 256, 50),
    TensorType("IQ4_NL", 20, 32, 18),
    TensorType("IQ3_S", 21, 256, 110),
    TensorType("IQ2_S", 22, 256, 82),
    TensorType("IQ4_XS", 23, 256, 136),
    TensorType("I8", 24, 1, 1),
    TensorType("I16", 25, 1, 2),
    TensorType("I32", 26, 1, 4),
    TensorType("I64", 27, 1, 8),
    TensorType("F64", 28, 1, 8),
    TensorType("IQ1_M", 29, 256, 56),
    TensorType("BF16", 30, 1, 2),
    TensorType("TQ1_0", 34, 256, 54),
    TensorType("TQ2_0", 35, 256, 66),
    TensorType("MXFP4", 39, 32, 17),
    TensorType("NVFP4", 40, 64, 36),
    TensorType("Q1_0", 41, 128, 18),
    TensorType("Q2_0", 42, 64, 18),
)

_SAFETENSORS_ONLY = (
    TensorType("BOOL", None, 1, 1),
    TensorType("U8", None, 1, 1),
    TensorType("U16", None, 1, 2),
    TensorType("U32", None, 1, 4),
    TensorType("U64", None, 1, 8),
    TensorType("C64", None, 1, 8),
    TensorType("F8_E4M3", None, 1, 1),
    TensorType("F8_E5M2", None, 1, 1),
    TensorType("F8_E8M0", None, 1, 1),
    TensorType("F8_E4M3FNUZ", None, 1, 1),
    TensorType("F8_E5M2FNUZ", None, 1, 1),
    TensorType("F4", None, 2, 1),
    TensorType("F6_E2M3", None, 4, 3),
    TensorType("F6_E3M2", None, 4, 3),
)

#: Types by the number a GGUF file gives.
GGML_TYPES: Mapping[int, TensorType] = MappingProxyType({t.number: t for t in _GGML if t.number is not None})

#: Every type by name.
TYPES: Mapping[str, TensorType] = MappingProxyType({t.name: t for t in _GGML + _SAFETENSORS_ONLY})

#: What a safetensors header may say under ``dtype``.
SAFETENSORS_TYPES: Mapping[str, TensorType] = MappingProxyType(
    {t.name: t for t in _SAFETENSORS_ONLY}
    | {name: TYPES[name] for name in ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8")}
)


def tensor_type(name: str) -> TensorType:
    """The type called ``name``; FormatError when there is none."""
    if name not in TYPES:
        raise FormatError(f"unknown tensor type {name!r}; there are: {', '.join(TYPES)}")
    return TYPES[name]
