"""YAML of strangers: nothing becomes an object, and nothing grows."""

from __future__ import annotations

from pathlib import Path

import pytest

from wanrun.batch.document import LIMIT, parse, read_file
from wanrun.errors import InvalidRequest, ModelNotFound


def test_every_scalar_is_its_text() -> None:
    found = parse(b"a: [1, 0x10, yes, null, 12:30, 2001-01-01, 1.50]\nb:\n- {c: '{{ d }}'}\n", "x.yaml")
    assert found == {
        "a": ["1", "0x10", "yes", "null", "12:30", "2001-01-01", "1.50"],
        "b": [{"c": "{{ d }}"}],
    }


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"a: &x [1, 2]\nb: [*x, *x]", "line 2, column 5: the alias *x is not read"),
        (b"a: &x [*x]", "alias"),
        (b"a: 1\na: 2", "line 2, column 1: 'a' is given twice"),
        (b"[[1]]: 3", "a key must be a word"),
        (b"- [a", "line 1"),
        (b"[" * 5000, "nested too deeply"),
        (b"a: {" * 5000, "nested too deeply"),
        (b"a\x00", "x.yaml is no YAML"),
        (b"\xff\xfe\xff", "x.yaml is not UTF-8"),
        (b"a: b\n--- \nc: d", "x.yaml, line 2"),
        (b"\ta: b", "line 1"),
    ],
)
def test_what_cannot_be_read_says_where(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(data, "x.yaml")
    assert reason in str(caught.value)


@pytest.mark.parametrize("tag", ["python/object/apply:os.getpid", "python/name:os.system", "timestamp"])
def test_tags_make_no_objects(tag: str) -> None:
    assert parse(f"a: !!{tag} b\nc: !!{tag} [d]".encode(), "x.yaml") == {"a": "b", "c": ["d"]}


def test_files(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="no file"):
        read_file(tmp_path / "x.yaml")
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read_file(tmp_path)
    path = tmp_path / "big.yaml"
    path.write_bytes(b"#" * (LIMIT + 1))
    with pytest.raises(InvalidRequest, match="split it"):
        read_file(path)
    path.write_bytes(b"#" * (LIMIT - 5) + b"\n- a")
    assert read_file(path) == ["a"]
