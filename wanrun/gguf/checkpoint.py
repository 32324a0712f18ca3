"""Opens the checkpoint of one network as it is published: a file, or shards with an index.

The index is transformers' (``*.safetensors.index.json``: ``weight_map`` names the file of each tensor). Its
file names are data from strangers, so they name files beside it and nothing else, and the shards must hold
exactly the tensors that it says.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch import Tensor

from wanrun.errors import FormatError, InvalidRequest, ModelNotFound
from wanrun.gguf.layout import Header, TensorInfo, Value
from wanrun.gguf.scaled import scales_of
from wanrun.gguf.weights import PackedTensor, Weights, open_weights

INDEX = ".safetensors.index.json"
MAX_INDEX_BYTES = 32 << 20
MAX_SHARDS = 4096


class Checkpoint:
    """The tensors of one network, wherever they lie; closed as a context manager.

    ``header`` has all of them, without the scales of fp8 weights, which ``scale`` gives.
    """

    def __init__(self, path: Path, parts: Iterable[Weights]) -> None:
        self._homes: dict[str, Weights] = {}
        metadata: dict[str, Value] = {}
        self.files: list[Path] = []
        for part in parts:
            self.files.append(part.header.path)
            metadata |= part.header.metadata
            for name in part.names:
                if name in self._homes:
                    where = f"{self._homes[name].header.path.name} and {part.header.path.name}"
                    raise FormatError(f"{path}: tensor {name!r} is in two shards, {where}")
                self._homes[name] = part
            form = part.header.format
        infos = {name: home.header.tensors[name] for name, home in self._homes.items()}
        self._scales, helpers = scales_of(path, infos, self._value)
        kept = {name: info for name, info in infos.items() if name not in helpers}
        self.header = Header(path, form, metadata, kept)

    def info(self, name: str) -> TensorInfo:
        return self.header.tensors[name]

    def packed(self, name: str) -> PackedTensor:
        """The stored bytes, a view of the mapped file."""
        return self._homes[name].packed(name)

    def scale(self, name: str) -> Tensor | None:
        """What the stored values of the tensor are multiplied by, float32: one number or one a row."""
        helper = self._scales.get(name)
        return None if helper is None else self._value(helper)

    def _value(self, name: str) -> Tensor:
        return self._homes[name].tensor(name)

    def close(self) -> None:
        """Let go of the files."""
        for home in self._homes.values():
            home.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint at ``path``: a GGUF or safetensors file, an index of shards, or a folder with one of
    these.

    Raises ModelNotFound for what is not there, InvalidRequest for a folder with several, FormatError for what
    is damaged, contradicts itself or is a pickle.
    """
    found = _in_folder(path) if path.is_dir() else path
    files = _shards(found) if found.name.endswith(".json") else [found]
    with ExitStack() as opened:
        parts = [opened.enter_context(open_weights(file)) for file in files]
        checkpoint = Checkpoint(found, parts)
        if len(files) > 1 or found.name.endswith(".json"):
            _check_index(found, parts)
        opened.pop_all()
    return checkpoint


def _in_folder(folder: Path) -> Path:
    entries = sorted(folder.iterdir())
    found = [entry for entry in entries if entry.name.endswith(INDEX)]
    found = found or [entry for entry in entries if entry.suffix in (".safetensors", ".gguf")]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(entry.name for entry in found[:5])
        raise InvalidRequest(f"{folder} holds {len(found)} models ({names}, …): name one of the files")
    pickles = [entry.name for entry in entries if entry.suffix in (".pth", ".pt", ".bin", ".ckpt")]
    if pickles:
        raise FormatError(
            f"{folder} holds only pickled checkpoints ({pickles[0]}), and loading one runs whatever code it "
            "carries; use the safetensors of the same model"
        )
    raise ModelNotFound(f"{folder} holds no safetensors or GGUF file")


def _shards(index: Path) -> list[Path]:
    names = sorted(set(_weight_map(index).values()))
    if len(names) > MAX_SHARDS:
        raise FormatError(f"{index} names {len(names)} files; at most {MAX_SHARDS} are read")
    for name in names:
        if Path(name).name != name or "\\" in name or not name.endswith(".safetensors"):
            raise FormatError(f"{index} names {name!r}, which is no safetensors file beside it")
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise ModelNotFound(
            f"{index} names {len(names)} files, of which {len(missing)} are missing: {', '.join(missing[:5])}"
        )
    return [index.parent / name for name in names]


def _weight_map(index: Path) -> Mapping[str, str]:
    try:
        if index.stat().st_size > MAX_INDEX_BYTES:
            raise FormatError(f"{index} is larger than an index may be, {MAX_INDEX_BYTES} bytes")
        content = json.loads(index.read_bytes(), object_pairs_hook=_unique)
    except FileNotFoundError as error:
        raise ModelNotFound(f"no such file: {index}") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{index} is no index of shards: {error}") from error
    entries = content.get("weight_map") if isinstance(content, dict) else None
    if (
        not isinstance(entries, dict)
        or not entries
        or not all(isinstance(name, str) for name in entries.values())
    ):
        raise FormatError(f"{index} is no index of shards: its weight_map must name the file of each tensor")
    return entries


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a name stands there twice")
    return dict(pairs)


def _check_index(index: Path, parts: list[Weights]) -> None:
    said = _weight_map(index)
    held = {name: part.header.path.name for part in parts for name in part.names}
    wrong = sorted(name for name in said.keys() | held.keys() if said.get(name) != held.get(name))
    if wrong:
        name = wrong[0]
        raise FormatError(
            f"{index} and its shards disagree about {len(wrong)} tensors: {name!r} should be in "
            f"{said.get(name, 'no file')} and is in {held.get(name, 'none')}"
        )
