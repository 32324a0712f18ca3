"""Tar files, as far as an archive of blobs needs them: regular files under plain names, nothing else.

Headers are read one by one, and no length in a file makes us allocate: names that need an extension's record
of more than 64 KiB, links, devices, sparse files and compressed archives are refused. The formats are POSIX
ustar and pax (IEEE Std 1003.1, pax, "ustar Interchange Format") with GNU tar's numbers in base 256.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from wanrun.errors import FormatError

BLOCK = 512
#: Two empty blocks end an archive.
END = bytes(2 * BLOCK)
_MAX_EXTENSION = 1 << 16
_MAX_MEMBERS = 10_000
_MAX_SIZE = 1 << 53
_FILE, _FOLDER, _NEXT_EXTENSION, _EXTENSION = b"0", b"5", b"x", b"g"
_RECORD = re.compile(rb"([0-9]{1,5}) ([^=]{1,100})=")


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file of an archive: where its bytes begin, and how many there are."""

    name: str
    offset: int
    size: int


def header(name: str, size: int) -> bytes:
    """The header of a file that is everybody's and has no time, so that equal archives have equal bytes."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.GNU_FORMAT)


def padding(size: int) -> bytes:
    """What follows a file of ``size`` bytes up to the next header."""
    return bytes(-size % BLOCK)


def members(file: BinaryIO, length: int) -> Iterator[Member]:
    """The regular files of an archive of ``length`` bytes; FormatError for anything else in it.

    Names are as written, but for a leading ``./``; what they may be is the caller's to say.
    """
    offset = 0
    extension: dict[str, str] = {}
    for _ in range(_MAX_MEMBERS):
        block = _read(file, offset, BLOCK)
        if not any(block):
            return
        kind, size = _checked(block), _number(block[124:136])
        if kind in (_NEXT_EXTENSION, _EXTENSION):
            records = _records(file, offset + BLOCK, size)
            if kind == _NEXT_EXTENSION:
                extension = records
            elif records.keys() & {"path", "size"}:
                raise FormatError("an archive that gives all its files one name or size")
        else:
            name = extension.get("path") or _name(block)
            size = _decimal(extension["size"]) if "size" in extension else size
            extension = {}
            if kind == _FILE:
                yield Member(name.removeprefix("./"), offset + BLOCK, size)
            elif kind != _FOLDER or size:
                raise FormatError(f"{name!r:.100} is no regular file (type {kind!r})")
        offset += BLOCK + size + -size % BLOCK
        if offset > length:
            raise FormatError(f"the archive is cut: it has {length} bytes and should have more than {offset}")
    raise FormatError(f"an archive of more than {_MAX_MEMBERS} files")


def _checked(block: bytes) -> bytes:
    """The type of the member whose header ``block`` is."""
    blank = block[:148] + b" " * 8 + block[156:]
    if block[257:262] != b"ustar" or _number(block[148:156]) != sum(blank):
        raise FormatError("not a tar archive, or damaged; a compressed one must be unpacked first")
    kind = block[156:157]
    return _FILE if kind == b"\0" else kind


def _number(field: bytes) -> int:
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") - (0x80 << 8 * (len(field) - 1))
    else:
        digits = field.strip(b" \0")
        if re.fullmatch(rb"[0-7]*", digits) is None:
            raise FormatError(f"a tar header with a number that is none: {field!r}")
        value = int(digits or b"0", 8)
    if value > _MAX_SIZE:
        raise FormatError("a tar header with a size that no file has")
    return value


def _decimal(digits: str) -> int:
    if re.fullmatch(r"[0-9]{1,15}", digits) is None:
        raise FormatError(f"a file of an impossible size: {digits!r:.100}")
    return int(digits)


def _name(block: bytes) -> str:
    """What GNU tar writes where POSIX has the name's beginning means something else, so it is left alone."""
    name, posix = block[:100].split(b"\0")[0], block[257:265] == b"ustar\x0000"
    prefix = block[345:500].split(b"\0")[0] if posix else b""
    return _text(prefix + b"/" + name if prefix else name)


def _records(file: BinaryIO, offset: int, size: int) -> dict[str, str]:
    if size > _MAX_EXTENSION:
        raise FormatError(f"a tar extension of {size} bytes")
    data, records = _read(file, offset, size), {}
    while data:
        match = _RECORD.match(data)
        end = int(match[1]) if match else 0
        if match is None or not match.end() < end <= len(data) or data[end - 1 : end] != b"\n":
            raise FormatError("a tar extension that cannot be read")
        key = _text(match[2])
        if key.startswith("GNU.sparse") or key in records:
            raise FormatError(f"an archive with what no bundle needs: {key!r:.100}")
        records[key] = "" if key not in ("path", "size") else _text(data[match.end() : end - 1])
        data = data[end:]
    return records


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(f"a name in the archive is not UTF-8: {data!r:.100}") from error


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    data = file.read(size)
    if len(data) != size:
        raise FormatError(f"the archive ends at byte {offset + len(data)}, in the middle")
    return data
