"""Quantises a Wan transformer's checkpoint by the rules of the published files, or by one's own."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wanrun.errors import InvalidRequest
from wanrun.gguf.checkpoint import Checkpoint, open_checkpoint
from wanrun.gguf.ggml import NEED_IMPORTANCE
from wanrun.gguf.imatrix import Imatrix, Moments
from wanrun.gguf.requantize import Output, requantize
from wanrun.wan.detect import identify
from wanrun.wan.mixes import Mix, choose, find_mix, fitting, plain, quantised
from wanrun.wan.names import canonical
from wanrun.wan.recipe import Rules, ruled

if TYPE_CHECKING:
    from wanrun.types import Progress

_SHAPES = "comfy.gguf.orig_shape."  # notes of shapes that the written tensors have themselves


@dataclass(frozen=True, slots=True)
class Importance:
    """An importance matrix and the name of its file, which the quantised file notes as llama.cpp's do."""

    matrix: Imatrix
    name: str = "imatrix"


def quantize_transformer(
    source: Path,
    target: Path,
    kind: str,
    progress: Progress,
    importance: Importance | None = None,
    rules: Rules = (),
) -> None:
    """Write the transformer in ``source`` to the GGUF file ``target`` as ``kind``, a name of ``MIXES``.

    ``source`` is whatever ``open_checkpoint`` opens. ``rules`` give single matrices other types. Rows that
    are no whole blocks of a type get another, see ``fitting``. Raises InvalidRequest for another kind of
    file, an unknown type, a rule that fits no matrix, or a type that needs an importance matrix without
    one; else as ``requantize``.
    """
    mix = find_mix(kind)
    with open_checkpoint(source) as checkpoint:
        names = transformer_names(checkpoint)
        _check_rules(rules, checkpoint, names)
        seen = {} if importance is None else dict(_matched(importance, checkpoint, names))
        outputs = [_output(checkpoint, name, stored, mix, rules, seen) for name, stored in names.items()]
        requantize(checkpoint, target, outputs, _metadata(checkpoint, mix, importance), progress)


def transformer_names(checkpoint: Checkpoint) -> dict[str, str]:
    """Original name -> stored name of a transformer's tensors; InvalidRequest when it is none."""
    identity = identify(checkpoint.header)
    if identity.kind != "diffusion":
        where = checkpoint.header.path
        raise InvalidRequest(f"{where} is no Wan transformer but {identity.kind} ({identity.variant})")
    return canonical(checkpoint.header.tensors)


def _output(
    checkpoint: Checkpoint, name: str, stored: str, mix: Mix, rules: Rules, seen: Mapping[str, Moments]
) -> Output:
    info = checkpoint.header.tensors[stored]
    if not quantised(name, info.shape):
        return Output(name, plain(name, info.shape, info.type), stored)
    asked = ruled(rules, name)
    kind = fitting(asked, info.shape) if asked else choose(mix, name, info.shape) or info.type
    known = seen.get(name)
    weights = None if known is None else known.importance
    if weights is None and kind in NEED_IMPORTANCE and kind != info.type:
        raise InvalidRequest(
            f"{name} as {kind} needs an importance matrix, without which so few bits are noise: make one "
            "with 'wanrun calibrate' and give it with --imatrix"
        )
    return Output(name, kind, stored, weights, None if known is None else known.products)


def _check_rules(rules: Rules, checkpoint: Checkpoint, names: Mapping[str, str]) -> None:
    matrices = [n for n, stored in names.items() if quantised(n, checkpoint.header.tensors[stored].shape)]
    for pattern, kind in rules:
        if not any(ruled(((pattern, kind),), name) for name in matrices):
            near = difflib.get_close_matches(pattern, matrices, n=1)
            hint = f"such as {near[0] if near else matrices[0]}" if matrices else "and there are none"
            raise InvalidRequest(f"the pattern {pattern!r} fits none of the blocks' matrices, {hint}")


def _matched(
    importance: Importance, checkpoint: Checkpoint, names: Mapping[str, str]
) -> Mapping[str, Moments]:
    """The moments by original name, whose widths must be those of the matrices."""
    stored = canonical(importance.matrix.moments)
    known = {name: importance.matrix.moments[key] for name, key in stored.items() if name in names}
    if not known:
        raise InvalidRequest(f"{importance.name} is of another model: it knows none of the tensors' names")
    for name, moments in known.items():
        shape = checkpoint.header.tensors[names[name]].shape
        if moments.sums.shape != shape[-1:]:
            raise InvalidRequest(
                f"{importance.name} is of another model: {name} has {shape[-1]} input channels, not "
                f"{moments.sums.size}"
            )
    return known


def _metadata(checkpoint: Checkpoint, mix: Mix, importance: Importance | None) -> dict[str, object]:
    header = checkpoint.header
    own = header.metadata if header.format == "gguf" else {}
    metadata: dict[str, object] = {key: value for key, value in own.items() if not key.startswith(_SHAPES)}
    metadata |= {
        "general.architecture": "wan",
        "general.quantization_version": 2,
        "general.file_type": mix.file_type,
    }
    if importance is not None:
        metadata |= {
            "quantize.imatrix.file": importance.name,
            "quantize.imatrix.dataset": ", ".join(importance.matrix.datasets),
            "quantize.imatrix.entries_count": len(importance.matrix.moments),
            "quantize.imatrix.chunks_count": importance.matrix.chunks,
        }
    return metadata
