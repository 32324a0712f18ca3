"""Says how a file of tensors will lie, GGUF or safetensors, before any of its data are there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from wanrun.errors import InvalidRequest
from wanrun.gguf.resumable import Layout
from wanrun.gguf.types import SAFETENSORS_TYPES
from wanrun.gguf.writer import gguf_head, tensor_bytes

#: Name, type, shape in torch's order.
Entry: TypeAlias = tuple[str, str, Sequence[int]]


def gguf_layout(metadata: Mapping[str, object], entries: Sequence[Entry]) -> Layout:
    """Of a GGUF file; raises as ``write_gguf``."""
    head, alignment = gguf_head(metadata, [(*entry, b"") for entry in entries])
    tensors, end = [], len(head)
    for name, kind, shape in entries:
        size = tensor_bytes(name, kind, shape)
        end += -(-size // alignment) * alignment
        tensors.append((name, size, end))
    return Layout(head, tensors)


def safetensors_layout(metadata: Mapping[str, str], entries: Sequence[Entry]) -> Layout:
    """Of a safetensors file, whose metadata are strings; InvalidRequest for a type that it cannot hold."""
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    tensors, end = [], 0
    for name, kind, shape in entries:
        if kind not in SAFETENSORS_TYPES:
            raise InvalidRequest(f"tensor {name!r}: safetensors has no type {kind}")
        start, end = end, end + tensor_bytes(name, kind, shape)
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [start, end]}
        tensors.append((name, end - start, end))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    head = len(text).to_bytes(8, "little") + text
    return Layout(head, [(name, size, len(head) + end) for name, size, end in tensors])
