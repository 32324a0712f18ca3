"""Gathers an importance matrix: what goes into each matrix of each expert while it makes videos.

llama.cpp does so with text (tools/imatrix/imatrix.cpp). A video model has to be seen at every noise level,
with the prompts and the guidance that it is used with, each expert on its own side of the boundary.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wanrun import pipeline, plugins
from wanrun.errors import InvalidRequest
from wanrun.gguf.compensate import BLOCK
from wanrun.gguf.header import read_header
from wanrun.gguf.imatrix import Imatrix, Moments, merge, read_imatrix, write_imatrix
from wanrun.store.store import open_store
from wanrun.types import Bundle, GenerationRequest, Progress
from wanrun.wan.names import canonical


def calibrate(
    bundle: Bundle,
    requests: Sequence[GenerationRequest],
    dataset: str,
    unfinished: Path,
    progress: Progress = pipeline.silent,
    device: str = "auto",
    pairs: bool = True,
) -> dict[str, Imatrix]:
    """The importance matrix of each expert by role, over the videos of ``requests``, a chunk each.

    What was gathered is kept in the file ``unfinished`` after each video, and a call with the same arguments
    goes on from there, to the same result bit for bit. ``pairs`` is for Watch. Raises InvalidRequest
    when that file is of a calibration with other arguments, or the steps are so few that an expert is idle.
    """
    mark = _identity(bundle, requests, pairs)
    gathered = _unfinished(unfinished, mark)
    watch = Watch(bundle, pairs)
    load = pipeline.with_adapters(plugins.load("backends", "torch"), bundle)
    files = {role: component.path for role, component in bundle.experts.items()}
    first, left = requests[0], requests[gathered.chunks :]
    with open_store().hold():
        conditionings = pipeline.encode_all(bundle, left, progress)
        with load(files, first.boundary, device, first.precision, on_load=watch.attach) as denoiser:
            for request, conditioning in zip(left, conditionings, strict=True):
                pipeline.denoise(denoiser, request, conditioning)
                gathered = merge([gathered, Imatrix(watch.take(), (mark,), 1)])
                write_imatrix(unfinished, gathered)
                gathered = read_imatrix(unfinished)  # rounded as the file is, interrupted or not
                progress("watching videos", gathered.chunks, len(requests))
    made = {role: _of_expert(gathered, role, dataset) for role in files}
    idle = [role for role, imatrix in made.items() if not imatrix.moments]
    if idle:
        raise InvalidRequest(
            f"the expert {idle[0]} was never used: {first.steps} steps are too few to see it"
        )
    return made


class Watch:
    """Sums the squares of what goes into each matrix of the experts that it is attached to.

    With ``pairs`` also the products of any two channels of a block of 256.
    """

    def __init__(self, bundle: Bundle, pairs: bool) -> None:
        self._matrices = {role: list(_matrices(component.path)) for role, component in bundle.experts.items()}
        self._pairs = pairs
        self._sums: dict[str, Tensor] = {}
        self._products: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def attach(self, role: str, model: nn.Module) -> None:
        """Watch ``model``, the expert ``role``, as long as it lives."""
        for name in self._matrices[role]:
            layer = model.get_submodule(name.removesuffix(".weight"))
            layer.register_forward_pre_hook(partial(self._see, _key(role, name)))

    def _see(self, key: str, _layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        rows = arguments[0].reshape(-1, arguments[0].shape[-1]).float()
        _add(self._sums, key, rows.square().sum(0).cpu().double())
        if self._pairs and rows.shape[1] % BLOCK == 0:
            parts = rows.unflatten(1, (-1, BLOCK)).transpose(0, 1)  # (blocks, rows, 256)
            _add(self._products, key, (parts.transpose(1, 2) @ parts).cpu())
        self._counts[key] = self._counts.get(key, 0) + len(rows)

    def take(self) -> dict[str, Moments]:
        """What was seen since the last call, by the key of the matrix."""
        taken = {
            key: Moments(
                sums.to(torch.float32).numpy(),
                self._counts[key],
                self._products[key].numpy() if key in self._products else None,
            )
            for key, sums in self._sums.items()
        }
        self._sums, self._products, self._counts = {}, {}, {}
        return taken


def _add(sums: dict[str, Tensor], key: str, new: Tensor) -> None:
    sums[key] = sums[key] + new if key in sums else new


def _matrices(path: Path) -> Iterator[str]:
    """The original names of a transformer's matrices: the weights of its linear layers."""
    header = read_header(path)
    for name, stored in canonical(header.tensors).items():
        if name.endswith(".weight") and len(header.tensors[stored].shape) == 2:
            yield name


def _key(role: str, name: str) -> str:
    """Two experts have matrices of the same names."""
    return f"{role}/{name}"


def _of_expert(gathered: Imatrix, role: str, dataset: str) -> Imatrix:
    moments = {
        key.removeprefix(_key(role, "")): seen
        for key, seen in gathered.moments.items()
        if key.startswith(_key(role, ""))
    }
    rows = max((seen.count for seen in moments.values()), default=0)
    return Imatrix(moments, (dataset,), gathered.chunks, round(rows / max(gathered.chunks, 1)))


def _unfinished(path: Path, mark: str) -> Imatrix:
    if not path.exists():
        return Imatrix({}, (mark,))
    found = read_imatrix(path)
    if found.datasets != (mark,):
        raise InvalidRequest(
            f"{path} was left by an unfinished calibration with another model, prompts or settings: finish "
            "that one, or delete the file"
        )
    return found


def _identity(bundle: Bundle, requests: Sequence[GenerationRequest], pairs: bool) -> str:
    """Names what decides the result, so that two calibrations are never mixed."""
    whole: Mapping[str, Any] = {
        **pipeline.ingredients(bundle),
        "requests": [asdict(request) for request in requests],
        "pairs": pairs,
    }
    return "unfinished " + hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
