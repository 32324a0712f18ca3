"""Tests the GGUF reader: what it finds, what it refuses, what it costs."""

from __future__ import annotations

import pickle
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from tests.gguf.samples import (
    ARRAY,
    BOOL,
    FLOAT32,
    INT32,
    UINT32,
    UINT64,
    GgufBytes,
    nested_gguf,
    plain_gguf,
    rich_gguf,
)
from wanrun.errors import FormatError
from wanrun.gguf import reader
from wanrun.gguf.layout import Header, NumberArray, StringArray
from wanrun.gguf.reader import read_gguf

ROOT = Path(__file__).parents[2]


def saved(path: Path, made: GgufBytes | bytes) -> Path:
    path.write_bytes(made if isinstance(made, bytes) else made.data)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.gguf"


def read(path: Path, made: GgufBytes | bytes) -> Header:
    return read_gguf(saved(path, made))


def test_every_kind_of_value(path: Path) -> None:
    metadata = read(path, rich_gguf()).metadata
    assert metadata["general.architecture"] == "wan"
    assert [metadata[f"scalar.{kind}"] for kind in (0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12)] == [
        *(7, -7, 700, -700, 70_000, -70_000, 0.5, True, 1 << 40, -(1 << 40), 0.1)
    ]
    numbers, flags, words = metadata["numbers"], metadata["flags"], metadata["words"]
    assert (
        isinstance(numbers, NumberArray) and isinstance(flags, NumberArray) and isinstance(words, StringArray)
    )
    assert (numbers.kind, list(numbers), numbers[-1]) == ("FLOAT32", [1.5, -2.5], -2.5)
    assert list(flags) == [True, False, True]
    assert list(words) == ["", "ball", "мяч", "球"]
    assert (words[-1], words[1:3], len(words)) == ("球", ["ball", "мяч"], 4)


def test_tensors_of_every_rank_in_torch_order(path: Path) -> None:
    header = read(path, rich_gguf())
    found = [(t.name, t.type, t.shape, t.nbytes) for t in header.tensors.values()]
    assert found == [
        ("patch.weight", "F32", (2, 3, 1, 2, 2), 96),
        ("flat", "F32", (2, 3, 4), 96),
        ("quantised", "Q4_0", (2, 64), 72),
        ("scalar", "F32", (), 4),
        ("empty", "F32", (0, 4), 0),
        ("half", "F16", (3,), 6),
    ]
    begin = header.tensors["patch.weight"].offset
    assert begin % 64 == 0
    assert path.read_bytes()[begin : begin + 5] == bytes([0, 1, 2, 3, 4])
    assert header.tensors["quantised"].offset == begin + 256


def test_version_two_and_nested_arrays(path: Path) -> None:
    assert read(path, plain_gguf()).tensors["w"].shape == (2, 4)
    deep = read(path, nested_gguf()).metadata["deep"]
    assert isinstance(deep, tuple) and isinstance(deep[0], tuple)
    assert isinstance(deep[0][0], NumberArray) and isinstance(deep[1], StringArray)
    assert (list(deep[0][0]), list(deep[1])) == ([-5], ["a", "bc"])


@pytest.mark.parametrize("architecture", ["wan", "pig", "cow", None])
def test_architecture_is_only_metadata(path: Path, architecture: str | None) -> None:
    made = GgufBytes().begin(tensors=0, keys=0 if architecture is None else 1)
    if architecture is not None:
        made.text("general.architecture", architecture)
    assert read(path, made).metadata.get("general.architecture") == architecture


def test_arrays_go_out_of_range_like_lists(path: Path) -> None:
    metadata = read(path, rich_gguf()).metadata
    for key in ("numbers", "words"):
        values = metadata[key]
        assert isinstance(values, NumberArray | StringArray)
        for index in (len(values), -len(values) - 1):
            with pytest.raises(IndexError):
                values[index]


def test_a_header_goes_to_another_process(path: Path) -> None:
    header = read(path, nested_gguf())
    assert pickle.loads(pickle.dumps(header)) == header


def tensor_file(*tensors: tuple[str, tuple[int, ...], int, int], size: int = 1024) -> GgufBytes:
    made = GgufBytes().begin(tensors=len(tensors), keys=0)
    for tensor in tensors:
        made.tensor(*tensor)
    return made.end(size)


def key_file(count: int = 1) -> GgufBytes:
    return GgufBytes().begin(tensors=0, keys=count)


def array_head(kind: int, count: int) -> GgufBytes:
    return key_file().string("a").u32(ARRAY).u32(kind).u64(count)


def deep_array(depth: int) -> GgufBytes:
    made = key_file().string("a").u32(ARRAY)
    for _ in range(depth - 1):
        made.u32(ARRAY).u64(1)
    return made.u32(INT32).u64(0)


BAD: dict[str, GgufBytes | bytes] = {
    "not a GGUF": b"GGML" + bytes(40),
    "GGUF version 1;": GgufBytes().begin(0, 0, version=1),
    "GGUF version 4;": GgufBytes().begin(0, 0, version=4),
    "GGUF version 0;": GgufBytes().begin(0, 0, version=0),
    "big-endian": GgufBytes().begin(0, 0, version=3 << 24),
    "claims 18446744073709551615 tensors": GgufBytes().begin(-1, 0),
    "claims 65537 keys": GgufBytes().begin(0, 65_537),
    "second 'k'": key_file(2).scalar("k", UINT32, 1).scalar("k", UINT32, 2),
    "key 0 is empty": key_file().scalar("", UINT32, 1),
    "kind 13": key_file().string("k").u32(13),
    "array 'a' has unknown kind 77": array_head(77, 1),
    "array 'a' takes 4611686018427387904 bytes": array_head(INT32, 1 << 60),
    "array 'a' at byte 49 needs 400 bytes and 0 are left": array_head(INT32, 100),
    "claims 1152921504606846976 strings": array_head(8, 1 << 60),
    "holds 65537 arrays": array_head(ARRAY, 65_537),
    "nested deeper": deep_array(5),
    "string 0 of array 'a' is longer": array_head(8, 1).u64(1 << 62),
    "'k' is 9223372036854775807 bytes long": key_file().string("k").u32(8).u64((1 << 63) - 1),
    "'k' at byte 45 needs 5 bytes and 0 are left": key_file().string("k").u32(8).u64(5),
    "key 0 is 2000 bytes long": key_file().scalar("k" * 2000, UINT32, 1),
    "key 0 at byte 32 is not UTF-8": key_file().string(b"\xff\xfe").u32(0).raw(b"\0"),
    "string 1 of array 'a' at byte 66 is not UTF-8": array_head(8, 2).string("a").string(b"\xc3\x28"),
    "neither 0 nor 1": key_file().string("k").u32(BOOL).raw(b"\2"),
    "array-of-flags": key_file().string("array-of-flags").u32(ARRAY).u32(BOOL).u64(2).raw(b"\1\2"),
    "'general.alignment' is 0": key_file().scalar("general.alignment", UINT32, 0),
    "'general.alignment' is 24": key_file().scalar("general.alignment", UINT32, 24),
    "'general.alignment' is 2097152": key_file().scalar("general.alignment", UINT32, 1 << 21),
    "'general.alignment' is UINT64": key_file().scalar("general.alignment", UINT64, 32),
    "'general.alignment' is 'x'": key_file().text("general.alignment", "x"),
    "two tensors 'w'": tensor_file(("w", (4,), 0, 0), ("w", (4,), 0, 32)),
    "has no name": tensor_file(("", (4,), 0, 0)),
    "'w' has 7 dimensions": tensor_file(("w", (1,) * 7, 0, 0)),
    "'w' has type 4,": tensor_file(("w", (32,), 4, 0)),
    "'w' has type 43,": tensor_file(("w", (32,), 43, 0)),
    "does not divide into Q4_0 blocks": tensor_file(("w", (33,), 2, 0)),
    "'rank0' of shape": tensor_file(("rank0", (), 2, 0)),
    "impossible shape": tensor_file(("w", (0, 1 << 63), 0, 0)),
    "'wrap' ends at byte": tensor_file(("wrap", (1 << 32, 1 << 32), 0, 0)),
    "'last' ends at byte 1092 of a file of 1088": tensor_file(("last", (257,), 0, 0)),
    "'away' ends at byte": tensor_file(("away", (4,), 0, (1 << 64) - 32)),
    "'w' lies at 4, which is no multiple of 32": tensor_file(("w", (4,), 0, 4)),
    "'a' and 'b' overlap": tensor_file(("b", (4,), 0, 32), ("a", (9,), 0, 0)),
    "'same' and 'twin' overlap": tensor_file(("same", (4,), 0, 0), ("twin", (4,), 0, 0)),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_files_are_refused_for_what_they_are(path: Path, message: str) -> None:
    with pytest.raises(FormatError) as caught:
        read(path, BAD[message])
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("kind", "shape"), [(INT32, [2, 3]), (INT32, [-2, -12]), (FLOAT32, [24.0]), (INT32, [1] * 6 + [24])]
)
def test_noted_shapes_must_fit(path: Path, kind: int, shape: list[float]) -> None:
    made = GgufBytes().begin(tensors=1, keys=1).array("comfy.gguf.orig_shape.w", kind, shape)
    with pytest.raises(FormatError, match=r"orig_shape\.w"):
        read(path, made.tensor("w", (24,), 0, 0).end(96))


def test_deepest_nesting_and_space_between_tensors_are_fine(path: Path) -> None:
    read(path, deep_array(4))
    assert set(read(path, tensor_file(("b", (4,), 0, 512), ("a", (4,), 0, 0))).tensors) == {"a", "b"}


def vocabulary(count: int) -> GgufBytes:
    """A file with ``count`` tokens, their scores and their types, made in bulk."""
    token = "▁token".encode()
    made = GgufBytes().begin(tensors=0, keys=3)
    made.string("tokenizer.ggml.tokens").u32(ARRAY).u32(8).u64(count)
    made.raw((len(token).to_bytes(8, "little") + token) * (count - 1)).string("</s>")
    made.string("tokenizer.ggml.scores").u32(ARRAY).u32(FLOAT32).u64(count).raw(bytes(4 * count))
    return made.string("tokenizer.ggml.token_type").u32(ARRAY).u32(INT32).u64(count).raw(bytes(4 * count))


def test_a_large_vocabulary_costs_little_more_than_its_bytes(path: Path) -> None:
    count = 256_384
    size = saved(path, vocabulary(count)).stat().st_size
    tracemalloc.start()
    header = read_gguf(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    tokens, scores = header.metadata["tokenizer.ggml.tokens"], header.metadata["tokenizer.ggml.scores"]
    assert isinstance(tokens, StringArray) and isinstance(scores, NumberArray)
    assert (len(tokens), tokens[0], tokens[-1], len(scores)) == (count, "▁token", "</s>", count)
    assert peak < size + (4 << 20), "strings must not be built before they are asked for"


def worst_cases() -> dict[str, GgufBytes]:
    """Files that are within the limits and as costly as that allows."""
    wide = ("x" * (4 << 20)).encode()[:-4] + "𝄞".encode()
    keys = key_file(reader.MAX_KEYS)
    for index in range(reader.MAX_KEYS):
        keys.raw((4).to_bytes(8, "little") + b"%04x" % index + bytes(4) + b"\0")
    nested = array_head(ARRAY, reader.MAX_NESTED_ARRAYS)
    nested.raw((bytes(4) + bytes(8)) * reader.MAX_NESTED_ARRAYS)
    empty = array_head(8, 1 << 20).raw(bytes(8 << 20))
    tensors = GgufBytes().begin(reader.MAX_TENSORS, 0)
    for index in range(reader.MAX_TENSORS):
        tensors.raw(
            (4).to_bytes(8, "little")
            + b"%04x" % index
            + bytes(4)
            + bytes(4)
            + (32 * index).to_bytes(8, "little")
        )
    return {
        "wide string": key_file().string("k").u32(8).u64(len(wide)).raw(wide),
        "many keys": keys,
        "many arrays": nested,
        "empty strings": empty,
        "many tensors": tensors.end(32 * reader.MAX_TENSORS),
    }


def test_the_costliest_files_stay_within_time_and_memory(tmp_path: Path) -> None:
    """In a fresh process, so that memory it freed before cannot hide what the reader takes."""
    for name, made in worst_cases().items():
        saved(tmp_path / name, made)
    code = (
        "import sys, pathlib, tests.gguf.fuzz as fuzz\n"
        "for path in map(pathlib.Path, sys.argv[1:]):\n"
        "    header = fuzz.limited(lambda: fuzz.read_header(path), path.stat().st_size)\n"
        "    assert header.metadata or header.tensors\n"
    )
    files = [str(tmp_path / name) for name in worst_cases()]
    subprocess.run([sys.executable, "-c", code, *files], check=True, timeout=300, cwd=ROOT)
