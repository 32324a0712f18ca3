"""Tests opening weights: values, views of the file, files larger than memory, names that are not there."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from wanrun.errors import FormatError
from wanrun.gguf import ggml
from wanrun.gguf.weights import Weights, open_weights
from wanrun.gguf.writer import TensorSource, write_gguf


@pytest.fixture
def values() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(0).standard_normal((4, 64), np.float32)


@pytest.fixture
def path(tmp_path: Path, values: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Path:
    tensors: list[TensorSource] = [
        ("exact.weight", "F32", values.shape, values),
        ("packed.weight", "Q8_0", values.shape, ggml.quantize("Q8_0", values)),
        ("patch_embedding.weight", "F16", (4, 4, 1, 4, 4), values.astype(np.float16)),
        ("nothing", "F32", (0, 3), b""),
    ]
    write_gguf(tmp_path / "w.gguf", {"general.architecture": "wan"}, tensors)
    return tmp_path / "w.gguf"


def test_values_and_facts(path: Path, values: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
    with open_weights(path) as weights:
        assert weights.names == ("exact.weight", "packed.weight", "patch_embedding.weight", "nothing")
        assert weights.header.metadata["general.architecture"] == "wan"
        assert "exact.weight" in weights and "other" not in weights
        assert (weights.shape("patch_embedding.weight"), weights.type("packed.weight")) == (
            (4, 4, 1, 4, 4),
            "Q8_0",
        )
        assert torch.equal(weights.tensor("exact.weight"), torch.from_numpy(values))
        half = torch.from_numpy(values.astype(np.float16)).reshape(4, 4, 1, 4, 4)
        assert torch.equal(weights.tensor("patch_embedding.weight", torch.bfloat16), half.to(torch.bfloat16))
        unpacked = np.empty_like(values)
        ggml.dequantize("Q8_0", ggml.quantize("Q8_0", values), unpacked)
        assert torch.equal(weights.tensor("packed.weight"), torch.from_numpy(unpacked))
        assert weights.tensor("nothing").shape == (0, 3)


def test_safetensors_hold_the_same(tmp_path: Path) -> None:
    tensors = {
        "a": torch.arange(6.0).reshape(2, 3),
        "f8": torch.tensor([0.5, -2.0, 448.0]).to(torch.float8_e4m3fn),
        "h": torch.tensor([1.5, float("inf")], dtype=torch.bfloat16),
        "flag": torch.tensor([True, False]),
    }
    save_file(tensors, tmp_path / "w.safetensors")
    with open_weights(tmp_path / "w.safetensors") as weights:
        assert set(weights.names) == set(tensors)
        for name, tensor in tensors.items():
            assert torch.equal(weights.tensor(name), tensor.to(torch.float32))
        assert weights.tensor("flag", torch.bool).tolist() == [True, False]


def mapped_bytes(path: Path) -> int:
    """How much of ``path`` this process has mapped."""
    spans = [
        line.split()[0].split("-")
        for line in Path("/proc/self/maps").read_text().splitlines()
        if str(path) in line
    ]
    return sum(int(end, 16) - int(start, 16) for start, end in spans)


def test_packed_data_are_views_of_the_file(path: Path) -> None:
    before = path.read_bytes()
    with open_weights(path) as weights:
        first, second = weights.packed("packed.weight"), weights.packed("packed.weight")
        assert (first.type, first.shape, first.data.dtype) == ("Q8_0", (4, 64), torch.uint8)
        assert first.data.data_ptr() == second.data.data_ptr()
        offset = weights.header.tensors["packed.weight"].offset
        assert first.data.numpy().tobytes() == before[offset : offset + 4 * 68]
        first.data.zero_()
    assert path.read_bytes() == before, "writing to a view must not reach the file"


def test_tensors_outlive_the_weights_and_then_the_file_is_let_go(path: Path) -> None:
    with open_weights(path) as weights:
        kept = weights.tensor("exact.weight")
        expected = kept.clone()
        assert mapped_bytes(path) > 0
    with pytest.raises(FormatError, match="is closed"):
        weights.packed("exact.weight")
    gc.collect()
    assert torch.equal(kept, expected)
    del kept
    gc.collect()
    assert mapped_bytes(path) == 0


def test_missing_names_come_with_the_nearest(path: Path) -> None:
    with open_weights(path) as weights:
        for read in (weights.shape, weights.type, weights.tensor, weights.packed):
            with pytest.raises(
                FormatError, match=r"w\.gguf has no tensor 'patch_embedding\.bias'.*patch_embedding\.weight"
            ):
                read("patch_embedding.bias")
        with pytest.raises(FormatError, match="it has 4 others"):
            weights.tensor("Ω")


def test_a_file_larger_than_memory_opens(tmp_path: Path) -> None:
    """Two tebibytes with holes: a private mapping must not be charged for what is never written."""
    path = tmp_path / "large.gguf"
    write_gguf(path, {}, [("w", "F32", (4,), bytes(16))])
    grown = path.read_bytes().replace(
        (4).to_bytes(8, "little") + bytes(4), (1 << 39).to_bytes(8, "little") + bytes(4)
    )
    with path.open("r+b") as file:
        file.write(grown)
        try:
            os.truncate(path, 96 + (4 << 39))
        except OSError:
            pytest.skip("this file system has no sparse files of that size")
    with open_weights(path) as weights:
        assert weights.shape("w") == (1 << 39,)
        assert int(weights.packed("w").data[-1]) == 0


def test_a_file_that_shrank_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wanrun.gguf import header, weights

    def read_then_cut(where: Path) -> header.Header:
        found = header.read_header(where)
        os.truncate(where, where.stat().st_size // 2)
        return found

    monkeypatch.setattr(weights, "read_header", read_then_cut)
    with pytest.raises(FormatError, match="shrank"):
        open_weights(path)


def test_weights_are_a_context_manager(path: Path) -> None:
    weights = open_weights(path)
    assert isinstance(weights, Weights)
    with weights as entered:
        assert entered is weights
