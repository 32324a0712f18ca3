"""Importance matrices survive both of llama.cpp's forms, and bytes that are none are refused."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest

from wanrun.errors import FormatError, InvalidRequest, WanrunError
from wanrun.gguf.imatrix import Imatrix, Moments, merge, read_imatrix, write_imatrix


def moments(columns: int, seed: int, count: float = 3) -> Moments:
    return Moments(np.random.default_rng(seed).random(columns, np.float32), count)


def legacy(entries: dict[str, Moments], tail: bytes = b"") -> bytes:
    parts = [struct.pack("<i", len(entries))]
    for name, seen in entries.items():
        parts += [
            struct.pack("<i", len(name)),
            name.encode(),
            struct.pack("<ii", int(seen.count), seen.sums.size),
        ]
        parts.append(seen.sums.tobytes())
    return b"".join(parts) + tail


TWO = {"blocks.0.ffn.0.weight": moments(64, 0), "blocks.1.ffn.2.weight": moments(128, 1, 70)}


def test_the_package_gguf_reads_what_llama_cpp_expects(tmp_path: Path) -> None:
    path = tmp_path / "i.gguf"
    write_imatrix(path, Imatrix(TWO, ("prompts", "提示"), 7, 512))
    reader = gguf.GGUFReader(path)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert sorted(tensors) == sorted(name + end for name in TWO for end in (".in_sum2", ".counts"))
    for name, seen in TWO.items():
        assert np.array_equal(tensors[name + ".in_sum2"].data, seen.sums)
        assert tensors[name + ".counts"].data.tolist() == [seen.count]
    values = {key: field.contents() for key, field in reader.fields.items()}
    assert values["general.type"] == "imatrix"
    assert values[gguf.Keys.IMatrix.DATASETS] == ["prompts", "提示"]
    assert (values[gguf.Keys.IMatrix.CHUNK_COUNT], values[gguf.Keys.IMatrix.CHUNK_SIZE]) == (7, 512)


@pytest.mark.parametrize("form", ["gguf", "dat"])
def test_both_forms_are_read(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"i.{form}"
    if form == "gguf":
        write_imatrix(path, Imatrix(TWO, ("prompts",), 7, 512))
    else:
        path.write_bytes(legacy(TWO, struct.pack("<ii", 7, 7) + b"prompts"))
    read = read_imatrix(path)
    assert (read.datasets, read.chunks) == (("prompts",), 7)
    assert set(read.moments) == set(TWO)
    for name, seen in TWO.items():
        assert np.array_equal(read.moments[name].sums, seen.sums)
        assert np.array_equal(read.moments[name].importance, seen.sums / np.float32(seen.count))


def test_merging_is_seeing_all_in_one_go() -> None:
    first, second = (
        Imatrix(TWO, ("a",), 2),
        Imatrix({"blocks.0.ffn.0.weight": moments(64, 5, 10)}, ("b", "a"), 3),
    )
    both = merge([first, second])
    assert (both.datasets, both.chunks, set(both.moments)) == (("a", "b"), 5, set(TWO))
    seen = both.moments["blocks.0.ffn.0.weight"]
    assert seen.count == 13
    assert np.allclose(seen.sums, moments(64, 0).sums + moments(64, 5).sums)
    with pytest.raises(InvalidRequest, match="different models"):
        merge([first, Imatrix({"blocks.0.ffn.0.weight": moments(65, 0)})])


def test_a_matrix_that_saw_nothing_weighs_all_channels_alike(tmp_path: Path) -> None:
    write_imatrix(tmp_path / "i", Imatrix({"w": Moments(np.zeros(4, np.float32), 0)}))
    assert read_imatrix(tmp_path / "i").moments["w"].importance.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("value", [np.nan, np.inf, -1])
def test_sums_that_are_none_are_refused(tmp_path: Path, value: float) -> None:
    write_imatrix(tmp_path / "i", Imatrix({"w": Moments(np.array([1, value], np.float32), 2)}))
    with pytest.raises(FormatError, match="squares"):
        read_imatrix(tmp_path / "i")


def test_other_files_are_refused(tmp_path: Path) -> None:
    toy = Path(__file__).parents[2] / "modelfiles" / "wan-toy" / "wan-toy-umt5-F16.gguf"
    with pytest.raises(FormatError, match=r"in_sum2"):
        read_imatrix(toy)
    rng, whole, path = random.Random(0), legacy(TWO, struct.pack("<ii", 7, 1) + b"p"), tmp_path / "i.dat"
    for cut in range(1, len(whole), 7):
        path.write_bytes(whole[:cut])
        if cut not in (len(legacy(TWO)),):
            with pytest.raises(FormatError, match="cut short"):
                read_imatrix(path)
    for _ in range(300):
        mutated = bytearray(whole)
        for _ in range(rng.choice([1, 4, 40])):
            mutated[rng.randrange(len(mutated))] = rng.randrange(256)
        path.write_bytes(mutated)
        try:
            read_imatrix(path)
        except WanrunError:
            continue
