"""Builds small GGUF and safetensors files byte by byte, remembering where their integers are."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field

#: Kind numbers of the GGUF specification.
UINT8, INT8, UINT16, INT16, UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY, UINT64, INT64, FLOAT64 = range(13)
_FORMATS = dict(zip(range(8), "BbHhIif?", strict=True)) | {UINT64: "Q", INT64: "q", FLOAT64: "d"}


@dataclass
class GgufBytes:
    """A GGUF file in the making; ``integers`` are (offset, width) of each count, length, kind and size."""

    data: bytearray = field(default_factory=bytearray)
    integers: list[tuple[int, int]] = field(default_factory=list)

    def raw(self, data: bytes) -> GgufBytes:
        self.data += data
        return self

    def number(self, width: int, value: int) -> GgufBytes:
        self.integers.append((len(self.data), width))
        return self.raw((value % (1 << 8 * width)).to_bytes(width, "little"))

    def u32(self, value: int) -> GgufBytes:
        return self.number(4, value)

    def u64(self, value: int) -> GgufBytes:
        return self.number(8, value)

    def string(self, text: str | bytes) -> GgufBytes:
        encoded = text.encode() if isinstance(text, str) else text
        return self.u64(len(encoded)).raw(encoded)

    def begin(self, tensors: int, keys: int, version: int = 3) -> GgufBytes:
        return self.raw(b"GGUF").u32(version).u64(tensors).u64(keys)

    def scalar(self, key: str, kind: int, value: float) -> GgufBytes:
        return self.string(key).u32(kind).raw(struct.pack("<" + _FORMATS[kind], value))

    def text(self, key: str, text: str) -> GgufBytes:
        return self.string(key).u32(STRING).string(text)

    def array(self, key: str, kind: int, values: list[float]) -> GgufBytes:
        self.string(key).u32(ARRAY).u32(kind).u64(len(values))
        return self.raw(struct.pack(f"<{len(values)}{_FORMATS[kind]}", *values))

    def texts(self, key: str, values: list[str]) -> GgufBytes:
        self.string(key).u32(ARRAY).u32(STRING).u64(len(values))
        for text in values:
            self.string(text)
        return self

    def tensor(self, name: str, shape: tuple[int, ...], kind: int, offset: int) -> GgufBytes:
        """``shape`` in torch's order."""
        self.string(name).u32(len(shape))
        for size in reversed(shape):
            self.u64(size)
        return self.u32(kind).u64(offset)

    def end(self, size: int, alignment: int = 32) -> GgufBytes:
        """Pad the header and append ``size`` bytes of data."""
        return self.raw(bytes(-len(self.data) % alignment)).raw(bytes(i % 251 for i in range(size)))


def rich_gguf() -> GgufBytes:
    """Every kind of value, nested arrays, ranks 0 to 5, a quantised tensor and a restored shape."""
    made = GgufBytes().begin(tensors=6, keys=17)
    made.text("general.architecture", "wan").scalar("general.alignment", UINT32, 64)
    scalars = {UINT8: 7, INT8: -7, UINT16: 700, INT16: -700, UINT32: 70_000, INT32: -70_000, FLOAT32: 0.5}
    for kind, value in (scalars | {BOOL: True, UINT64: 1 << 40, INT64: -(1 << 40), FLOAT64: 0.1}).items():
        made.scalar(f"scalar.{kind}", kind, value)
    made.array("numbers", FLOAT32, [1.5, -2.5]).array("flags", BOOL, [True, False, True])
    made.texts("words", ["", "ball", "мяч", "球"])
    made.array("comfy.gguf.orig_shape.flat", INT32, [2, 3, 4])
    made.tensor("patch.weight", (2, 3, 1, 2, 2), 0, 0).tensor("flat", (24,), 0, 128)
    made.tensor("quantised", (2, 64), 2, 256).tensor("scalar", (), 0, 384)
    made.tensor("empty", (0, 4), 0, 448).tensor("half", (3,), 1, 448)
    return made.end(454, 64)


def nested_gguf() -> GgufBytes:
    """An array of arrays, and no tensors."""
    made = GgufBytes().begin(tensors=0, keys=1).string("deep").u32(ARRAY).u32(ARRAY).u64(2)
    made.u32(ARRAY).u64(1).u32(INT32).u64(1).raw(struct.pack("<i", -5))
    return made.u32(STRING).u64(2).string("a").string("bc")


def plain_gguf() -> GgufBytes:
    """Version 2 and one tensor."""
    return GgufBytes().begin(tensors=1, keys=0, version=2).tensor("w", (2, 4), 0, 0).end(32)


def safetensors_bytes(header: object, data: bytes = b"") -> bytes:
    """A safetensors file; ``header`` is JSON text as bytes, or something to make it from."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def rich_safetensors() -> bytes:
    """Several types and ranks, metadata, an escaped name, an empty tensor."""
    header = {
        "__metadata__": {"format": "pt", "мяч": 'a "quoted" \\ \u00e9\n'},
        "b": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
        "a\u7403": {"dtype": "BF16", "shape": [1, 3, 1], "data_offsets": [16, 22]},
        "none": {"dtype": "I64", "shape": [0, 5], "data_offsets": [22, 22]},
        "scalar": {"dtype": "F8_E4M3", "shape": [], "data_offsets": [22, 23]},
        "packed": {"dtype": "F4", "shape": [3, 2], "data_offsets": [23, 26]},
        "yes": {"dtype": "BOOL", "shape": [2], "data_offsets": [26, 28]},
    }
    return safetensors_bytes(json.dumps(header, indent=1).encode(), bytes(i % 2 for i in range(28)))
