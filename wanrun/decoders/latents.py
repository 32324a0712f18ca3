"""Latents as a file: safetensors with what they were made from in its metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from wanrun.errors import FormatError
from wanrun.gguf.weights import open_weights

_NAME, _KEY = "latents", "wanrun"


def pack(latents: Tensor, provenance: Mapping[str, Any]) -> bytes:
    """The file's bytes for (channels, frames, height, width) latents and their run's provenance."""
    data: bytes = save({_NAME: latents.float().cpu().contiguous()}, {_KEY: json.dumps(provenance)})
    return data


def unpack(path: Path) -> tuple[Tensor, dict[str, Any]]:
    """The latents, float32 on the CPU, and the provenance.

    Raises FormatError for a file that ``pack`` did not make, ModelNotFound when there is none.
    """
    with open_weights(path) as weights:
        text = weights.header.metadata.get(_KEY)
        if _NAME not in weights or not isinstance(text, str) or len(weights.shape(_NAME)) != 4:
            raise FormatError(f"{path} does not hold the latents of a wanrun video")
        latents = weights.tensor(_NAME, torch.float32).clone()
    try:
        provenance = json.loads(text)
    except ValueError as error:
        raise FormatError(f"{path}: its provenance is not JSON: {error}") from error
    if not isinstance(provenance, dict):
        raise FormatError(f"{path}: its provenance is no JSON object")
    return latents, provenance
