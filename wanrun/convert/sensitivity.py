"""Measures what it costs the final latents that one matrix alone is quantised, for each matrix and type."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from wanrun import pipeline, plugins
from wanrun.convert.substitute import Substitute
from wanrun.convert.together import denoise_together
from wanrun.errors import FormatError, InvalidRequest
from wanrun.gguf.compensate import pack
from wanrun.gguf.imatrix import Imatrix
from wanrun.gguf.types import tensor_type
from wanrun.gguf.weights import PackedTensor, open_weights
from wanrun.store.durable import write_file
from wanrun.store.store import open_store
from wanrun.types import Bundle, Conditioning, Denoiser, GenerationRequest, Progress
from wanrun.wan.mixes import quantised
from wanrun.wan.names import canonical

#: The types that are tried.
KINDS = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_0")

#: By expert, matrix and type: the mean over the videos of ‖Δ latents‖² / ‖latents‖².
Errors = dict[str, dict[str, dict[str, float]]]


def measure(
    bundle: Bundle,
    requests: Sequence[GenerationRequest],
    imatrices: Mapping[str, Imatrix],
    table: Path,
    progress: Progress = pipeline.silent,
    device: str = "auto",
) -> Errors:
    """The error of every matrix that mixes quantise, in each of ``KINDS``, while the others stay as they are.

    The file ``table`` keeps what was measured after each matrix, and a call with the same arguments goes on
    from there. Raises InvalidRequest when it is of other arguments, or an expert is never used.
    """
    mark = _identity(bundle, requests, imatrices)
    errors = _read(table, mark)
    files = {role: component.path for role, component in bundle.experts.items()}
    matrices = [(role, name) for role, path in files.items() for name in quantisable(path)]
    left = [(role, name) for role, name in matrices if name not in errors.get(role, {})]
    if not left:
        return errors
    place = Substitute()
    load = pipeline.with_adapters(plugins.load("backends", "torch"), bundle)
    first = requests[0]
    with open_store().hold():
        conditionings = pipeline.encode_all(bundle, requests, progress)
        with load(files, first.boundary, device, first.precision, on_load=place.on_load) as denoiser:
            videos = _Videos(denoiser, requests, conditionings, place)
            for role, name in left:
                found = _of_matrix(videos, place, role, name, files[role], imatrices.get(role))
                errors.setdefault(role, {})[name] = found
                _write(table, mark, errors)
                progress("measuring matrices", sum(map(len, errors.values())), len(matrices))
    return errors


def quantisable(path: Path) -> Iterator[str]:
    """The original names of the matrices that mixes quantise."""
    with open_weights(path) as weights:
        for name, stored in canonical(weights.names).items():
            if quantised(name, weights.shape(stored)):
                yield name


def _of_matrix(
    videos: _Videos, place: Substitute, role: str, name: str, path: Path, imatrix: Imatrix | None
) -> dict[str, float]:
    layer = name.removesuffix(".weight")
    found: dict[str, float] = {}
    with open_weights(path) as weights:
        stored = canonical(weights.names)[name]
        rows = weights.tensor(stored).numpy()
        seen = imatrix.moments.get(name) if imatrix is not None else None
        for kind in KINDS:
            if rows.shape[1] % tensor_type(kind).block:
                continue
            blocks = torch.frombuffer(bytearray(pack(kind, rows, seen)), dtype=torch.uint8)
            place.put(role, layer, PackedTensor(kind, rows.shape, blocks))
            found[kind] = videos.error(role)
        place.put(role, layer, weights.packed(stored))
    return found


@dataclass(slots=True)
class _Tape:
    """A Checkpoint in memory: velocities to play back, and those that came after them with their experts."""

    played: Sequence[bytes] = ()
    place: Substitute | None = None
    written: list[bytes] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)

    def recorded(self) -> list[bytes]:
        return list(self.played)

    def record(self, index: int, data: bytes) -> None:
        if self.place is not None:
            self.written.append(data)
            self.roles.append(self.place.role)


class _Videos:
    """The videos as the model makes them, to be made again with a matrix changed."""

    def __init__(
        self,
        denoiser: Denoiser,
        requests: Sequence[GenerationRequest],
        conditionings: Sequence[Conditioning],
        place: Substitute,
    ) -> None:
        self._denoiser = denoiser
        self._denoise = partial(denoise_together, denoiser, requests, conditionings)
        self._tape = _Tape(place=place)
        self._steps = requests[0].steps
        self._latents = self._denoise(self._tape)

    def error(self, role: str) -> float:
        """With the expert ``role`` as it is now; what comes before its turn is played back."""
        if role not in self._tape.roles:
            raise InvalidRequest(f"the expert {role} is never used: {self._steps} steps are too few")
        self._denoiser.close()  # what it has read of the prompts, it has read with the matrix as it was
        before = self._tape.written[: self._tape.roles.index(role)]
        apart = (self._denoise(_Tape(before)) - self._latents).double()
        return float((_energy(apart) / _energy(self._latents.double())).mean())


def _energy(latents: Tensor) -> Tensor:
    return latents.square().flatten(1).sum(1)


def _identity(bundle: Bundle, requests: Sequence[GenerationRequest], imatrices: Mapping[str, Imatrix]) -> str:
    """Names what decides the result."""
    whole = {**pipeline.ingredients(bundle), "requests": [asdict(request) for request in requests]}
    digest = hashlib.sha256(json.dumps(whole, sort_keys=True).encode())
    for role, imatrix in sorted(imatrices.items()):
        for name, seen in sorted(imatrix.moments.items()):
            digest.update(f"{role} {name} {seen.products is not None} ".encode() + seen.importance.tobytes())
    return digest.hexdigest()


def _read(table: Path, mark: str) -> Errors:
    if not table.exists():
        return {}
    try:
        found = json.loads(table.read_text("utf-8"))
        if found["of"] != mark:
            raise InvalidRequest(
                f"{table} was measured with another model, importance matrix, prompts or settings: give "
                "another file, or delete it"
            )
        errors = {
            role: {name: {kind: float(kinds[kind]) for kind in kinds} for name, kinds in matrices.items()}
            for role, matrices in found["errors"].items()
        }
    except (ValueError, TypeError, KeyError, AttributeError, UnicodeDecodeError) as error:
        raise FormatError(f"{table} is no table of measured errors: {error!r}") from error
    return errors


def _write(table: Path, mark: str, errors: Errors) -> None:
    write_file(table, json.dumps({"of": mark, "errors": errors}, indent=1).encode())
