"""Tar headers, against those of Python's tarfile and of GNU tar."""

from __future__ import annotations

import gzip
import io
import subprocess
import tarfile
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanrun.errors import FormatError
from wanrun.store import tar

FILES = {"index.json": b"{}", "blobs/sha256/" + "a" * 64: b"x" * 1000, "empty": b"", "block": b"y" * 512}


def listed(data: bytes) -> dict[str, bytes]:
    file = io.BytesIO(data)
    found = {}
    for member in tar.members(file, len(data)):
        found[member.name] = data[member.offset : member.offset + member.size]
    return found


def made(*members: tarfile.TarInfo, format: int = tarfile.PAX_FORMAT, data: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for info in members:
            info.size = len(data) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, **pax: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.pax_headers = kind, "/etc/passwd", pax
    return info


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_tarfile_writes(format: int) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        archive.addfile(entry("blobs", tarfile.DIRTYPE))
        for name, data in FILES.items():
            info = entry(name)
            info.size, info.mtime = len(data), 1234.5
            archive.addfile(info, io.BytesIO(data))
    assert listed(buffer.getvalue()) == FILES


@pytest.mark.parametrize("format", ["ustar", "gnu", "posix"])
def test_what_gnu_tar_writes(tmp_path: Path, format: str) -> None:
    for name, data in FILES.items():
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    subprocess.run(
        ["tar", f"--format={format}", "-cf", tmp_path / "t", "-C", tmp_path / "in", "."], check=True
    )
    assert listed((tmp_path / "t").read_bytes()) == FILES


def test_what_we_write() -> None:
    data = b"".join(
        tar.header(name, len(body)) + body + tar.padding(len(body)) for name, body in FILES.items()
    )
    with tarfile.open(fileobj=io.BytesIO(data + tar.END)) as archive:
        infos = archive.getmembers()
        assert {info.name: archive.extractfile(info).read() for info in infos} == FILES  # type: ignore[union-attr]
    assert {(info.mtime, info.uid, info.uname, info.mode) for info in infos} == {(0, 0, "", 0o644)}
    assert listed(data + tar.END) == FILES


def test_files_of_more_than_eight_gibibytes() -> None:
    """The size does not fit into octal digits: GNU's base 256, and pax's record."""
    size = 9 << 30
    for header in (
        tar.header("big", size),
        entry_of_size("big", size, tarfile.GNU_FORMAT),
        entry_of_size("big", size, tarfile.PAX_FORMAT),
    ):
        members = tar.members(io.BytesIO(header), 1 << 40)
        assert next(members) == tar.Member("big", len(header), size)


def entry_of_size(name: str, size: int, format: Literal[1, 2]) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(format)


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.FIFOTYPE,
        tarfile.CONTTYPE,
        tarfile.GNUTYPE_SPARSE,
        b"K",
        b"V",
        b"\xff",
    ],
)
def test_kinds_that_are_refused(kind: bytes) -> None:
    data = bytearray(tar.header("a", 0))
    data[156:157] = kind
    data[148:156] = b"%06o\0 " % sum(data[:148] + b" " * 8 + data[156:])
    with pytest.raises(FormatError, match="is no regular file"):
        listed(bytes(data) + tar.END)
    if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        with pytest.raises(FormatError, match="is no regular file"):
            listed(made(entry("a", kind)))


def test_sparse_files(tmp_path: Path) -> None:
    """As GNU tar writes them, in both of its ways."""
    with (tmp_path / "holes").open("wb") as file:
        file.truncate(10 << 20)
        file.write(b"x")
    for format in ("gnu", "posix"):
        subprocess.run(
            ["tar", f"--format={format}", "--sparse", "-cf", tmp_path / "t", "-C", tmp_path, "holes"],
            check=True,
        )
        with pytest.raises(FormatError, match=r"no regular file|GNU\.sparse"):
            listed((tmp_path / "t").read_bytes())


def test_records() -> None:
    assert list(listed(made(entry("a", path="é/b"), data=b"x"))) == ["é/b"]
    assert listed(made(entry("a", comment="x" * 1000), data=b"x")) == {"a": b"x"}
    for problem, records in {
        "a tar extension of": {"comment": "x" * 70_000},
        "no bundle needs": {"GNU.sparse.size": "1"},
        "impossible size": {"size": "-1"},
    }.items():
        with pytest.raises(FormatError, match=problem):
            listed(made(entry("a", tarfile.REGTYPE, **records), data=b"x"))
    shared = io.BytesIO()
    with tarfile.open(fileobj=shared, mode="w", pax_headers={"path": "x"}) as archive:
        archive.addfile(entry("a"))
    with pytest.raises(FormatError, match="all its files one name"):
        listed(shared.getvalue())


@pytest.mark.parametrize(
    "record", [b"", b"x", b"4 a=\n", b"99 a=b\n", b"0 a=b\n", b"6 a=b\n6 a=c\n", b"-1 a=b\n"]
)
def test_damaged_records(record: bytes) -> None:
    block = tar.header("p", len(record) or 1)
    data = bytearray(block)
    data[156:157] = b"x"
    data[148:156] = b"%06o\0 " % sum(data[:148] + b" " * 8 + data[156:])
    body = (record or b"\0") + tar.padding(len(record) or 1)
    with pytest.raises(FormatError):
        listed(bytes(data) + body + tar.header("a", 0) + tar.END)


def test_archives_that_are_none() -> None:
    whole = made(entry("a"), data=b"x" * 2000)
    for data in (
        gzip.compress(whole),
        gzip.compress(whole) * 20,
        b"",
        b"x",
        b"PK\x03\x04" * 500,
        b"\xff" * 512,
        whole[:511],
        whole[:1500],
    ):
        with pytest.raises(FormatError):
            listed(data)


def test_more_files_than_any_bundle_has() -> None:
    with pytest.raises(FormatError, match="more than 10000 files"):
        listed(tar.header("a", 0) * 10_001)


@given(st.data())
def test_mutations(data: st.DataObject) -> None:
    """Whatever is changed, there is an answer or a FormatError, and no member reaches beyond the file."""
    whole = bytearray(made(entry("a" * 120), entry("b"), data=b"x" * 700))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    raw = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        members = list(tar.members(io.BytesIO(raw), len(raw)))
    except FormatError:
        return
    assert all(member.offset + member.size <= len(raw) for member in members)
