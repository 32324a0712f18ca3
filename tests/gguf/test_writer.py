"""Tests the writer: what the gguf package and our reader find, and what a failure leaves behind."""

from __future__ import annotations

import stat
import struct
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGUFReader, GGUFValueType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.gguf.samples import nested_gguf, rich_gguf
from wanrun.errors import InvalidRequest
from wanrun.gguf.layout import NumberArray, StringArray
from wanrun.gguf.reader import read_gguf
from wanrun.gguf.types import GGML_TYPES, tensor_type
from wanrun.gguf.writer import TensorSource, Typed, write_gguf


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.gguf"


def single_precision(value: float) -> float:
    return float(np.float32(value))


def listed(value: object) -> object:
    return list(value) if isinstance(value, NumberArray | StringArray | array) else value


#: What the gguf package knows; it takes a Q8_1 block for 40 bytes, where ggml has 36.
NUMBERS = sorted(int(kind) for kind in GGML_QUANT_SIZES if kind.name != "Q8_1")
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda key: key != "general.alignment" and not key.startswith("GGUF.")
)
VALUES = st.one_of(
    st.booleans(),
    st.integers(-(1 << 63), (1 << 64) - 1),
    st.floats(width=32, allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), min_size=1, max_size=5),
    st.lists(st.integers(-(1 << 63), (1 << 63) - 1), min_size=1, max_size=5),
    st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=5),
    st.lists(st.booleans(), min_size=1, max_size=5),
    st.lists(st.floats(allow_nan=False), min_size=1, max_size=5).map(lambda numbers: array("d", numbers)),
    st.binary(min_size=1, max_size=9).map(lambda data: array("B", data)),
)


@st.composite
def tensor(draw: st.DrawFn) -> TensorSource:
    kind = GGML_TYPES[draw(st.sampled_from(NUMBERS))]
    shape = [*draw(st.lists(st.integers(1, 3), max_size=4)), draw(st.integers(1, 3)) * kind.block]
    data = draw(st.randoms(use_true_random=False)).randbytes(kind.nbytes(int(np.prod(shape))))
    name = draw(KEYS)
    return name, kind.name, tuple(shape), (lambda: data) if draw(st.booleans()) else data


TENSORS = st.lists(tensor(), max_size=5, unique_by=lambda made: made[0])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(metadata=st.dictionaries(KEYS, VALUES, max_size=6), tensors=TENSORS)
def test_our_reader_and_the_gguf_package_find_what_was_written(
    path: Path, metadata: dict[str, object], tensors: list[TensorSource]
) -> None:
    write_gguf(path, metadata, tensors)
    header, reader = read_gguf(path), GGUFReader(path)
    assert {key: listed(value) for key, value in header.metadata.items()} == {
        k: listed(v) for k, v in metadata.items()
    }
    for key, value in metadata.items():
        field = reader.get_field(key)
        assert field is not None
        assert np.array_equal(np.array(field.contents()), np.array(listed(value)))
    content = path.read_bytes()
    read = {found.name: found for found in reader.tensors}
    assert list(header.tensors) == [name for name, *_ in tensors]
    for name, kind, shape, source in tensors:
        info, data = header.tensors[name], bytes(cast("bytes", source() if callable(source) else source))
        assert (info.type, info.shape, content[info.offset : info.offset + info.nbytes]) == (
            kind,
            shape,
            data,
        )
        assert (read[name].tensor_type, tuple(read[name].shape[::-1])) == (tensor_type(kind).number, shape)
        assert read[name].data.tobytes() == data


@pytest.mark.parametrize(
    ("value", "kinds"),
    [
        (5, [GGUFValueType.UINT32]),
        (-5, [GGUFValueType.INT32]),
        (1 << 40, [GGUFValueType.UINT64]),
        (-(1 << 40), [GGUFValueType.INT64]),
        (1e-6, [GGUFValueType.FLOAT32]),
        (True, [GGUFValueType.BOOL]),
        ("x", [GGUFValueType.STRING]),
        (Typed("UINT16", 5), [GGUFValueType.UINT16]),
        ([1, 2], [GGUFValueType.ARRAY, GGUFValueType.INT32]),
        ([1, 1 << 40], [GGUFValueType.ARRAY, GGUFValueType.INT64]),
        ([1, 0.5], [GGUFValueType.ARRAY, GGUFValueType.FLOAT32]),
        ([True], [GGUFValueType.ARRAY, GGUFValueType.BOOL]),
        (["a"], [GGUFValueType.ARRAY, GGUFValueType.STRING]),
        (array("H", [1]), [GGUFValueType.ARRAY, GGUFValueType.UINT16]),
    ],
)
def test_kinds_are_those_that_llama_cpp_expects(
    path: Path, value: object, kinds: list[GGUFValueType]
) -> None:
    write_gguf(path, {"key": value}, [])
    field = GGUFReader(path).get_field("key")
    assert field is not None
    assert field.types == kinds


def test_five_dimensions_and_alignment(path: Path) -> None:
    weight = np.arange(48, dtype=np.float32).reshape(2, 3, 1, 2, 4)
    write_gguf(
        path, {"general.alignment": 128}, [("pad", "I8", (1,), b"x"), ("w", "F32", weight.shape, weight)]
    )
    found = {made.name: made for made in GGUFReader(path).tensors}["w"]
    assert tuple(found.shape[::-1]) == weight.shape
    assert np.array_equal(found.data, weight)
    header = read_gguf(path)
    assert header.tensors["w"].shape == weight.shape and header.tensors["w"].offset % 128 == 0
    assert path.stat().st_size % 128 == 0


@pytest.mark.parametrize("sample", [rich_gguf, nested_gguf])
def test_metadata_of_another_file_can_be_written_again(tmp_path: Path, sample: object) -> None:
    assert callable(sample)
    (tmp_path / "first").write_bytes(sample().data)
    metadata = read_gguf(tmp_path / "first").metadata
    shapeless = {key: value for key, value in metadata.items() if "orig_shape" not in key}
    write_gguf(tmp_path / "second", shapeless, [])
    again = read_gguf(tmp_path / "second").metadata
    assert {k: v for k, v in again.items() if k != "scalar.12"} == {
        k: v for k, v in shapeless.items() if k != "scalar.12"
    }


BAD: dict[str, tuple[dict[str, object], Sequence[TensorSource]]] = {
    "in one piece": ({}, [("w", "F32", (3, 2), np.zeros((2, 3), np.float32).T)]),
    "two tensors": ({}, [("w", "F32", (1,), bytes(4)), ("w", "F32", (1,), bytes(4))]),
    "takes 8 bytes, not 4": ({}, [("w", "F32", (2,), bytes(4))]),
    "Q4_0 cannot hold shape": ({}, [("w", "Q4_0", (2, 33), b"")]),
    "F32 cannot hold shape": ({}, [("w", "F32", (1,) * 7, bytes(4))]),
    "GGUF has no type F8_E4M3": ({}, [("w", "F8_E4M3", (1,), b"x")]),
    "cannot be written as UINT8": ({"k": Typed("UINT8", 256)}, []),
    "cannot be written as INT64": ({"k": -(1 << 70)}, []),
    "is a set, which": ({"k": {1}}, []),
    "'general.alignment' is 12": ({"general.alignment": 12}, []),
}


@pytest.mark.parametrize("message", BAD)
def test_what_the_format_cannot_hold_is_refused(path: Path, message: str) -> None:
    path.write_bytes(b"the old file")
    with pytest.raises(InvalidRequest) as caught:
        write_gguf(path, *BAD[message])
    assert message in str(caught.value)
    assert path.read_bytes() == b"the old file"
    assert list(path.parent.iterdir()) == [path]


def test_an_interrupted_write_leaves_the_old_file(path: Path) -> None:
    def interrupted() -> bytes:
        assert len(list(path.parent.iterdir())) == 2, "the new file grows beside the old one"
        raise KeyboardInterrupt

    path.write_bytes(b"the old file")
    with pytest.raises(KeyboardInterrupt):
        write_gguf(path, {}, [("a", "F32", (1,), bytes(4)), ("w", "F32", (1,), interrupted)])
    assert path.read_bytes() == b"the old file"
    assert list(path.parent.iterdir()) == [path]


def test_files_have_the_rights_of_any_new_file(path: Path) -> None:
    write_gguf(path, {}, [])
    (path.parent / "other").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((path.parent / "other").stat().st_mode)


def test_floats_are_written_in_single_precision(path: Path) -> None:
    write_gguf(path, {"eps": 1e-6}, [])
    assert (
        read_gguf(path).metadata["eps"]
        == single_precision(1e-6)
        == struct.unpack("<f", struct.pack("<f", 1e-6))[0]
    )
