"""Reads the header of a model file, whichever format it has."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from wanrun.errors import FormatError
from wanrun.gguf.layout import Header, NumberArray, StringArray, TensorInfo, Value
from wanrun.gguf.mapping import map_file
from wanrun.gguf.reader import read_gguf
from wanrun.gguf.safetensors import MAX_HEADER_BYTES, read_safetensors

__all__ = ["Header", "NumberArray", "StringArray", "TensorInfo", "Value", "file_format", "read_header"]

_PICKLE_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".pkl")
_PICKLE_STARTS = (b"PK\x03\x04", b"PK\x05\x06", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_OLD_GGML = (b"lmgg", b"fmgg", b"tjgg", b"algg")


def read_header(path: Path) -> Header:
    """The checked header of a GGUF or safetensors file, told apart by its first bytes.

    Costs milliseconds and no torch. Raises ModelNotFound when there is no such file, InvalidRequest when it
    cannot be read, FormatError when it is something else or damaged. Pickles are refused unread.
    """
    return read_gguf(path) if file_format(path) == "gguf" else read_safetensors(path)


def file_format(path: Path) -> Literal["gguf", "safetensors"]:
    """What ``path`` claims to be by its first bytes; raises as ``read_header``."""
    with map_file(path) as data:
        start = data[:9]
    if start[:4] == b"GGUF":
        return "gguf"
    if start[:4] in _OLD_GGML:
        raise FormatError(f"{path} is in a ggml format older than GGUF; convert it to GGUF with llama.cpp")
    # A header's length is below 2^27, so its eight bytes cannot look like any other magic here.
    length = int.from_bytes(start[:8], "little")
    if path.suffix == ".safetensors" or (start[8:] == b"{" and length <= MAX_HEADER_BYTES):
        return "safetensors"
    if start.startswith(_PICKLE_STARTS) or path.suffix.lower() in _PICKLE_SUFFIXES:
        raise FormatError(
            f"{path} is a pickled checkpoint, and loading one runs whatever code it carries; "
            "use the .safetensors or .gguf of the same model, or convert it to safetensors"
        )
    raise FormatError(f"{path} is neither GGUF nor safetensors: it begins with {start[:8]!r}")
