"""Quantises a Wan transformer's file by the rules of the published ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wanrun.errors import InvalidRequest
from wanrun.gguf.header import read_header
from wanrun.gguf.requantize import requantize
from wanrun.wan.detect import identify
from wanrun.wan.mixes import choose, find_mix
from wanrun.wan.names import canonical

if TYPE_CHECKING:
    from wanrun.types import Progress


def quantize_transformer(source: Path, target: Path, kind: str, progress: Progress) -> None:
    """Write the transformer in ``source`` to the GGUF file ``target`` as ``kind``, a name of ``MIXES``.

    Raises InvalidRequest for another kind of file or an unknown type, else as ``requantize``.
    """
    mix = find_mix(kind)
    header = read_header(source)
    identity = identify(header)
    if identity.kind != "diffusion":
        raise InvalidRequest(f"{source} is no Wan transformer but {identity.kind} ({identity.variant})")
    known = {stored: name for name, stored in canonical(tuple(header.tensors)).items()}
    metadata = {
        "general.architecture": "wan",
        "general.quantization_version": 2,
        "general.file_type": mix.file_type,
    }
    requantize(
        source, target, lambda name, shape: choose(mix, known.get(name, name), shape), metadata, progress
    )
