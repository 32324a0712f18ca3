"""Finds the scales by which fp8 weights are multiplied, under the names that ComfyUI has given them.

``X.weight`` goes with ``X.scale_weight`` (and the marker ``scaled_fp8``) or ``X.weight_scale`` (and
``X.comfy_quant``, JSON that names the format). Scales of activations, ``X.scale_input`` and
``X.input_scale``, are hints for tensor cores and change no weight.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from wanrun.errors import FormatError
from wanrun.gguf.layout import TensorInfo

_SCALES = ("scale_weight", "weight_scale")
_IGNORED = ("scale_input", "input_scale")
_MARKER, _FORMAT = "scaled_fp8", "comfy_quant"
_FORMATS = ("float8_e4m3fn", "float8_e5m2")
_MAX_FORMAT_BYTES = 4096


def scales_of(
    path: Path, infos: Mapping[str, TensorInfo], value: Callable[[str], Tensor]
) -> tuple[dict[str, str], set[str]]:
    """The tensor that scales each weight, and all that are no weights themselves.

    FormatError for a scale that fits no fp8 weight, or a weight in a format that only its makers' code reads.
    """
    scales: dict[str, str] = {}
    helpers: set[str] = set()
    for name, info in infos.items():
        layer, _, leaf = name.rpartition(".")
        if leaf == _FORMAT:
            _check_format(path, name, info, value)
        if leaf in _SCALES:
            weight = f"{layer}.weight"
            _check_scale(path, info, infos.get(weight))
            scales[weight] = name
        if leaf in (*_SCALES, *_IGNORED, _MARKER, _FORMAT):
            helpers.add(name)
    return scales, helpers


def _check_scale(path: Path, scale: TensorInfo, weight: TensorInfo | None) -> None:
    if weight is None or not weight.type.startswith("F8_"):
        raise FormatError(f"{path}: {scale.name!r} scales no fp8 weight")
    rows = weight.shape[0] if len(weight.shape) == 2 else 1
    if scale.type not in ("F32", "BF16", "F16") or scale.shape not in ((), (1,), (rows,), (rows, 1)):
        raise FormatError(
            f"{path}: {scale.name!r} of type {scale.type} and shape {scale.shape} is neither one scale nor "
            f"one a row of {weight.shape}"
        )


def _check_format(path: Path, name: str, info: TensorInfo, value: Callable[[str], Tensor]) -> None:
    if info.type != "U8" or not 0 < info.nbytes <= _MAX_FORMAT_BYTES:
        raise FormatError(f"{path}: {name!r} is no description of a format")
    try:
        said = json.loads(bytes(value(name).int().tolist()))
    except ValueError as error:
        raise FormatError(f"{path}: {name!r} is no description of a format: {error}") from None
    form = said.get("format") if isinstance(said, dict) else None
    if form not in _FORMATS:
        raise FormatError(
            f"{path}: {name.rpartition('.')[0]!r} is stored as {str(form)[:40]!r}; of ComfyUI's formats "
            f"{' and '.join(_FORMATS)} are read: convert the bf16 or fp16 file of the model"
        )
