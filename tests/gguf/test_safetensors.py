"""Tests the safetensors reader against the safetensors library: what one accepts the other accepts."""

from __future__ import annotations

import json
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from tests.gguf.fuzz import TOKENS
from tests.gguf.samples import rich_safetensors, safetensors_bytes
from wanrun.errors import FormatError
from wanrun.gguf.layout import Header
from wanrun.gguf.safetensors import read_safetensors
from wanrun.gguf.types import SAFETENSORS_TYPES


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.safetensors"


def ours(path: Path, data: bytes) -> Header | None:
    path.write_bytes(data)
    try:
        return read_safetensors(path)
    except FormatError as error:
        assert str(error).startswith(str(path))
        return None


def theirs(path: Path, data: bytes) -> dict[str, list[int]] | None:
    path.write_bytes(data)
    try:
        with safe_open(path, "np") as file:
            return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    except SafetensorError:
        return None


ENTRY = b'{"dtype":"U8","shape":[2],"data_offsets":[0,2]}'


def entry(dtype: Any = "U8", shape: Any = (2,), offsets: Any = (0, 2)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_a_file_of_the_library(path: Path) -> None:
    tensors = {
        "b.weight": torch.arange(6.0).reshape(2, 3),
        "a": torch.ones(2, 1, 2, 1, 2, dtype=torch.bfloat16),
        "s": torch.tensor(3, dtype=torch.int64),
        "f8": torch.zeros(5, dtype=torch.float8_e4m3fn),
    }
    save_file(tensors, path, {"format": "pt"})
    header = read_safetensors(path)
    assert header.metadata == {"format": "pt"}
    assert {name: info.shape for name, info in header.tensors.items()} == {
        n: tuple(t.shape) for n, t in tensors.items()
    }
    assert {info.type for info in header.tensors.values()} == {"F32", "BF16", "I64", "F8_E4M3"}
    info = header.tensors["b.weight"]
    assert path.read_bytes()[info.offset : info.offset + info.nbytes] == tensors["b.weight"].numpy().tobytes()
    offsets = [info.offset for info in header.tensors.values()]
    assert offsets == sorted(offsets)


def test_the_rich_sample(path: Path) -> None:
    header = ours(path, rich_safetensors())
    assert header is not None
    assert header.metadata == {"format": "pt", "мяч": 'a "quoted" \\ é\n'}
    assert {n: list(i.shape) for n, i in header.tensors.items()} == theirs(path, rich_safetensors())


def test_every_type_has_the_library_s_size(path: Path) -> None:
    for name, kind in SAFETENSORS_TYPES.items():
        sizes = [
            size
            for size in (1, 2, 4, 6, 8, 12, 16, 24, 32, 64, 128)
            if theirs(path, safetensors_bytes({"a": entry(name, [8], [0, size])}, bytes(size)))
        ]
        assert sizes == [kind.nbytes(8)], name
        data = safetensors_bytes({"a": entry(name, [8], [0, sizes[0]])}, bytes(sizes[0]))
        assert ours(path, data) is not None


BOTH = {
    "spaces after the header": (json.dumps({"a": entry()}).encode() + b" \n\t\r  ", True),
    "spaces inside": (b'{ "a" :\n{"dtype":"U8" , "shape":[ 2 ],"data_offsets":[0,2]}\t}', True),
    "no metadata": ({"__metadata__": None, "a": entry()}, True),
    "an empty name": ({"": entry()}, True),
    "escapes": (b'{"\\u0061\\n":{"d\\u0074ype":"U8","shape":[2],"data_offsets":[0,2]}}', True),
    "a pair of surrogates": (b'{"\\ud83d\\ude00":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}', True),
    "eight dimensions": ({"a": entry(shape=[2] + [1] * 7)}, True),
    "zero and two": (
        {"a": entry(), "z": entry(shape=[0], offsets=[2, 2]), "y": entry(shape=[0], offsets=[0, 0])},
        True,
    ),
    "nothing": ({}, False),
    "a lone surrogate": (b'{"\\ud800":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}', False),
    "a control character": (b'{"a\n":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}', False),
    "a byte order mark": (b'\xef\xbb\xbf{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}', False),
    "no UTF-8": (b'{"a\xff":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}', False),
    "UTF-16": ('{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}'.encode("utf-16-le"), False),
    "an array": (b"[]", False),
    "a float size": ({"a": entry(shape=[2.0])}, False),
    "an exponent": (b'{"a":{"dtype":"U8","shape":[2e0],"data_offsets":[0,2]}}', False),
    "a negative size": ({"a": entry(shape=[-2])}, False),
    "minus zero": (b'{"a":{"dtype":"U8","shape":[2],"data_offsets":[-0,2]}}', False),
    "a leading zero": (b'{"a":{"dtype":"U8","shape":[02],"data_offsets":[0,2]}}', False),
    "a size that is true": ({"a": entry(shape=[True, 2])}, False),
    "NaN": (b'{"a":{"dtype":"U8","shape":[NaN],"data_offsets":[0,2]}}', False),
    "a huge size": (b'{"a":{"dtype":"U8","shape":[' + b"9" * 400 + b'],"data_offsets":[0,2]}}', False),
    "a product that wraps": ({"a": entry(shape=[1 << 32, 1 << 32, 2])}, False),
    "an unknown type": ({"a": entry(dtype="Q4")}, False),
    "a type that is none": ({"a": entry(dtype=7)}, False),
    "offsets turned round": ({"a": entry(offsets=[2, 0])}, False),
    "three offsets": ({"a": entry(offsets=[0, 2, 2])}, False),
    "too few bytes": ({"a": entry(shape=[3])}, False),
    "a hole before": ({"a": entry(shape=[1], offsets=[1, 2])}, False),
    "a hole after": ({"a": entry(shape=[1], offsets=[0, 1])}, False),
    "an overlap": ({"a": entry(), "b": entry()}, False),
    "beyond the file": ({"a": entry(shape=[3], offsets=[0, 3])}, False),
    "a field missing": ({"a": {"dtype": "U8", "shape": [2]}}, False),
    "a field twice": (b'{"a":{"dtype":"U8","dtype":"U8","shape":[2],"data_offsets":[0,2]}}', False),
    "metadata twice": (
        b'{"__metadata__":{},"__metadata__":{},"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}',
        False,
    ),
    "metadata of numbers": ({"__metadata__": {"a": 1}, "a": entry()}, False),
    "metadata of lists": ({"__metadata__": {"a": ["b"]}, "a": entry()}, False),
    "metadata as text": ({"__metadata__": "b", "a": entry()}, False),
    "depth": (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", False),
    "a trailing comma": (b'{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},}', False),
    "a second object": (json.dumps({"a": entry()}).encode() * 2, False),
    "odd half bytes": ({"a": entry("F4", [3], [0, 2])}, False),
    "a zero byte after": (json.dumps({"a": entry()}).encode() + b"\0", False),
}


@pytest.mark.parametrize("case", BOTH)
def test_accepts_and_refuses_what_the_library_does(path: Path, case: str) -> None:
    header, accepted = BOTH[case]
    data = safetensors_bytes(header, b"ab")
    assert (theirs(path, data) is not None) is accepted
    assert (ours(path, data) is not None) is accepted


STRICTER = {
    "a space before the brace": b' {"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}',
    "a name twice": b'{"a":' + ENTRY + b',"a":' + ENTRY + b"}",
    "a metadata key twice": b'{"__metadata__":{"k":"1","k":"2"},"a":' + ENTRY + b"}",
    "a further field": {"a": entry() | {"code": "x"}},
    "an entry without names": b'{"a":["U8",[2],[0,2]]}',
    "nine dimensions": {"a": entry(shape=[2] + [1] * 8)},
    "an impossible dimension": {"a": entry(), "z": entry(shape=[0, 1 << 60], offsets=[2, 2])},
    "a long name": {"a" * 2000: entry()},
}


@pytest.mark.parametrize("case", STRICTER)
def test_is_stricter_only_as_its_docstring_says(path: Path, case: str) -> None:
    data = safetensors_bytes(STRICTER[case], b"ab")
    assert theirs(path, data) is not None
    assert ours(path, data) is None


@pytest.mark.parametrize("length", [0, 1, 2, 100, 1 << 31, 1 << 32, (1 << 63) - 1, (1 << 64) - 1])
def test_lengths_of_the_header(path: Path, length: int) -> None:
    data = length.to_bytes(8, "little") + safetensors_bytes({"a": entry()}, b"ab")[8:]
    assert theirs(path, data) is None
    assert ours(path, data) is None


def test_random_edits_are_judged_alike(path: Path) -> None:
    """None of these edits, by a fixed seed, makes a file of those that only we refuse."""
    rng = random.Random(1)
    text = rich_safetensors()[8:]
    accepted = 0
    for _ in range(500):
        header, at = text[:-28], rng.randrange(len(text) - 28)
        drop = rng.choice((0, 0, 1, 1, 2, 9))
        header = (
            header[:at]
            + rng.choice((b"", bytes([rng.randrange(256)]), *TOKENS, b"0", b" "))
            + header[at + drop :]
        )
        data = safetensors_bytes(header, text[-28:])
        mine, other = ours(path, data), theirs(path, data)
        if mine is not None:
            accepted += 1
            assert other == {name: list(info.shape) for name, info in mine.tensors.items()}, header
        else:
            assert other is None, header
    assert accepted > 30


def test_hostile_json_takes_no_memory(path: Path) -> None:
    """A parser that builds values before it judges them would take some forty times the file here."""
    for header in (b'{"a":[' + b"[]," * 200_000 + b"[]]}", b'{"__metadata__":[' + b"{}," * 200_000 + b"{}]}"):
        path.write_bytes(safetensors_bytes(header))
        tracemalloc.start()
        with pytest.raises(FormatError):
            read_safetensors(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2 << 20


def test_too_many_tensors_are_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wanrun.gguf.safetensors.MAX_TENSORS", 100)
    for count in (100, 101):
        header = {f"{i}": entry(shape=[0], offsets=[0, 0]) for i in range(count)}
        assert (ours(path, safetensors_bytes(header)) is None) is (count > 100)
