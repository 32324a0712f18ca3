"""Turns packed weights into torch tensors, on whatever device they lie."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from types import MappingProxyType

import torch
from torch import Tensor

from wanrun.errors import FormatError
from wanrun.gguf import ggml
from wanrun.gguf.blocks import UNPACK
from wanrun.gguf.types import TensorType, tensor_type

#: Storage types whose elements torch has itself.
PLAIN: Mapping[str, torch.dtype] = MappingProxyType(
    {
        "F64": torch.float64,
        "F32": torch.float32,
        "F16": torch.float16,
        "BF16": torch.bfloat16,
        "F8_E4M3": torch.float8_e4m3fn,
        "F8_E5M2": torch.float8_e5m2,
        "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
        "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
        "F8_E8M0": torch.float8_e8m0fnu,
        "I64": torch.int64,
        "I32": torch.int32,
        "I16": torch.int16,
        "I8": torch.int8,
        "U64": torch.uint64,
        "U32": torch.uint32,
        "U16": torch.uint16,
        "U8": torch.uint8,
        "BOOL": torch.bool,
    }
)

#: torch casts up to this many elements on the calling thread, and the scratch stays in the core's cache.
_CAST_ELEMENTS = 1 << 15
#: Elements that a device unpacks at once, which bounds its intermediates.
_DEVICE_ELEMENTS = 1 << 24


def dequantize(kind: str, packed: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """The weights of ``shape`` that ``packed``, contiguous uint8, holds as ``kind``, on its device.

    Values are computed in float32 and rounded once to ``dtype``. On the CPU every type of ggml goes through
    its C library, with as many threads as torch uses; other devices unpack the types of ``blocks.UNPACK``. A
    plain type that already is ``dtype`` comes back as a view. FormatError when the bytes do not make the
    shape, or the type cannot be unpacked on the device.
    """
    spec = tensor_type(kind)
    if prod(shape) % spec.block or packed.numel() != spec.nbytes(prod(shape)):
        raise FormatError(f"{packed.numel()} bytes of {kind} do not make shape {shape}")
    if kind in PLAIN:
        return _plain(packed, PLAIN[kind], dtype).reshape(shape)
    if packed.device.type == "cpu":
        return _through_ggml(spec, packed, dtype).reshape(shape)
    return through_torch(kind, packed, dtype).reshape(shape)


def _plain(packed: Tensor, stored: torch.dtype, dtype: torch.dtype) -> Tensor:
    if packed.numel() == 0:
        return torch.empty(0, dtype=dtype, device=packed.device)
    if packed.data_ptr() % stored.itemsize:
        packed = packed.clone()  # safetensors data may begin at any byte
    return packed.view(stored).to(dtype)


def _through_ggml(spec: TensorType, packed: Tensor, dtype: torch.dtype) -> Tensor:
    packed = packed.contiguous()
    function, elements = ggml.row_function(spec.name), packed.numel() // spec.size * spec.block
    with torch.inference_mode(False):  # what other threads write to must be an ordinary tensor
        out = torch.empty(elements, dtype=dtype)
    source, destination = packed.data_ptr(), out.data_ptr()

    def unpack(span: tuple[int, int]) -> None:
        first, count = span
        function(source + first // spec.block * spec.size, destination + 4 * first, count)

    def unpack_and_cast(span: tuple[int, int]) -> None:
        scratch = torch.empty(min(span[1], _CAST_ELEMENTS), dtype=torch.float32)
        for first in range(span[0], sum(span), _CAST_ELEMENTS):
            count = min(_CAST_ELEMENTS, sum(span) - first)
            function(source + first // spec.block * spec.size, scratch.data_ptr(), count)
            out[first : first + count].copy_(scratch[:count])

    ggml.run_spans(unpack if dtype == torch.float32 else unpack_and_cast, elements, torch.get_num_threads())
    return out


def through_torch(kind: str, packed: Tensor, dtype: torch.dtype) -> Tensor:
    """The elements of ``packed`` blocks as a flat tensor on their device, by torch alone."""
    if kind not in UNPACK:
        known = ", ".join(UNPACK)
        raise FormatError(
            f"{kind} weights can be unpacked on the CPU only; a {packed.device.type} device takes {known}"
        )
    spec, unpack = tensor_type(kind), UNPACK[kind]
    blocks = packed.reshape(-1, spec.size)
    out = torch.empty(len(blocks), spec.block, dtype=dtype, device=packed.device)
    step = _DEVICE_ELEMENTS // spec.block
    for first in range(0, len(blocks), step):
        out[first : first + step] = unpack(blocks[first : first + step])
    return out.flatten()
