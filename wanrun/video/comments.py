"""Finds the comment in an mp4, WebM, GIF or PNG file without decoding it.

Only the containers' skeletons are walked, by seeking, so that a hostile file costs a bounded number of small
reads. Layouts: ISO/IEC 14496-12 with iTunes ``ilst`` metadata, Matroska (RFC 9559) in EBML (RFC 8794),
GIF89a, PNG (third edition).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

from wanrun.errors import FormatError

#: Bytes of comment text that are worth reading; Pillow refuses PNG text beyond it too.
COMMENT_LIMIT = 2**20
#: Boxes, elements, blocks or chunks to look at before giving up: ours come first or nearly so.
STEP_LIMIT = 100_000

#: Steps left, shared by all levels of a walk.
Steps = Iterator[int]
#: What a box or element is called, and where its content starts and ends.
Span = tuple[bytes, int, int]
Walk = Callable[[BinaryIO, int, int, Steps], Iterator[Span]]

MP4_PATH = (b"moov", b"udta", b"meta", b"ilst", b"\xa9cmt", b"data")
SEGMENT, TAGS, TAG, SIMPLE_TAG = b"\x18\x53\x80\x67", b"\x12\x54\xc3\x67", b"\x73\x73", b"\x67\xc8"
TAG_NAME, TAG_STRING = b"\x45\xa3", b"\x44\x87"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def find_comment(file: BinaryIO) -> bytes | None:
    """The comment's bytes, None where the file has none.

    Raises FormatError for a file that is none of the four formats, or is damaged before its comment.
    """
    size = file.seek(0, 2)
    file.seek(0)
    start = file.read(8)
    steps = iter(range(STEP_LIMIT))
    if start[4:8] == b"ftyp":
        return _mp4_comment(file, size, steps)
    if start.startswith(b"\x1a\x45\xdf\xa3"):
        return _webm_comment(file, size, steps)
    if start.startswith((b"GIF87a", b"GIF89a")):
        return _gif_comment(file, steps)
    if start == PNG_SIGNATURE:
        return _png_comment(file, size, steps)
    raise FormatError("not an mp4, webm, gif or png file")


def _take(file: BinaryIO, position: int, count: int) -> bytes:
    file.seek(position)
    data = file.read(count)
    if len(data) < count:
        raise FormatError(f"the file ends early: wanted {count} bytes at {position}, got {len(data)}")
    return data


def _text(file: BinaryIO, start: int, end: int) -> bytes:
    if end - start > COMMENT_LIMIT:
        raise FormatError(f"a comment of {end - start} bytes is over the limit of {COMMENT_LIMIT}")
    return _take(file, start, max(end - start, 0))


def _spend(steps: Steps) -> None:
    if next(steps, None) is None:
        raise FormatError(f"no comment within the first {STEP_LIMIT} parts of the file")


def _descend(file: BinaryIO, span: Span, path: tuple[bytes, ...], walk: Walk, steps: Steps) -> Iterator[Span]:
    """Every span that lies at ``path`` below ``span``, in file order."""
    if not path:
        yield span
        return
    for child in walk(file, span[1], span[2], steps):
        if child[0] == path[0]:
            yield from _descend(file, child, path[1:], walk, steps)


def _mp4_comment(file: BinaryIO, size: int, steps: Steps) -> bytes | None:
    for _, start, end in _descend(file, (b"", 0, size), MP4_PATH, _boxes, steps):
        return _text(file, start + 8, end)  # behind its type and its language
    return None


def _boxes(file: BinaryIO, start: int, end: int, steps: Steps) -> Iterator[Span]:
    while start + 8 <= end:
        _spend(steps)
        header = _take(file, start, 8)
        size, kind, content = int.from_bytes(header[:4], "big"), header[4:], start + 8
        if size == 1:
            size, content = int.from_bytes(_take(file, content, 8), "big"), content + 8
        elif size == 0:
            size = end - start
        if kind == b"meta":
            content += 4  # its version and flags
        if not content <= start + size <= end:
            raise FormatError(f"box {kind!r} at {start} claims {size} bytes of the {end - start} there are")
        yield kind, content, start + size
        start += size


def _webm_comment(file: BinaryIO, size: int, steps: Steps) -> bytes | None:
    path = (SEGMENT, TAGS, TAG, SIMPLE_TAG)
    for _, start, end in _descend(file, (b"", 0, size), path, _elements, steps):
        parts = {kind: (first, last) for kind, first, last in _elements(file, start, end, steps)}
        if TAG_NAME in parts and TAG_STRING in parts and _text(file, *parts[TAG_NAME]) == b"COMMENT":
            return _text(file, *parts[TAG_STRING])
    return None


def _elements(file: BinaryIO, start: int, end: int, steps: Steps) -> Iterator[Span]:
    while start < end:
        _spend(steps)
        kind = _variable(file, start)
        length = _variable(file, start + len(kind))
        content = start + len(kind) + len(length)
        bits = 7 * len(length)
        size = int.from_bytes(length, "big") & ((1 << bits) - 1)
        if size == (1 << bits) - 1:  # unknown: a live stream's segment or cluster, which fills its parent
            size = end - content
        if size < 0 or content + size > end:
            raise FormatError(f"element {kind.hex()} at {start} claims {size} bytes beyond its parent's end")
        yield kind, content, content + size
        start = content + size


def _variable(file: BinaryIO, position: int) -> bytes:
    """An EBML number: as many bytes as the first one has leading zeros, and one."""
    width = 9 - _take(file, position, 1)[0].bit_length()
    if width > 8:
        raise FormatError(f"not an EBML number at {position}")
    return _take(file, position, width)


def _gif_comment(file: BinaryIO, steps: Steps) -> bytes | None:
    position = 13 + _colour_table(_take(file, 10, 1)[0])
    while True:
        _spend(steps)
        introducer = _take(file, position, 1)
        if introducer == b"!" and _take(file, position + 1, 1) == b"\xfe":
            return _gif_text(file, position + 2, steps)
        if introducer == b"!":
            position += 2
        elif introducer == b",":
            position += 11 + _colour_table(_take(file, position + 9, 1)[0])
        elif introducer == b";":
            return None
        else:
            raise FormatError(f"not a GIF block at {position}")
        for start, count in _blocks(file, position, steps):
            position = start + count
        position += 1


def _gif_text(file: BinaryIO, position: int, steps: Steps) -> bytes:
    blocks = list(_blocks(file, position, steps))
    size = sum(count for _, count in blocks)
    if size > COMMENT_LIMIT:
        raise FormatError(f"a comment of {size} bytes is over the limit of {COMMENT_LIMIT}")
    return b"".join(_take(file, start, count) for start, count in blocks)


def _colour_table(flags: int) -> int:
    """Bytes of the colour table that a GIF descriptor's flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _blocks(file: BinaryIO, position: int, steps: Steps) -> Iterator[tuple[int, int]]:
    while count := _take(file, position, 1)[0]:
        _spend(steps)
        yield position + 1, count
        position += 1 + count


def _png_comment(file: BinaryIO, size: int, steps: Steps) -> bytes | None:
    position = len(PNG_SIGNATURE)
    while position + 12 <= size:
        _spend(steps)
        header = _take(file, position, 8)
        start = position + 8
        end = start + int.from_bytes(header[:4], "big")
        if header[4:] == b"iTXt" and (text := _international_text(_text(file, start, end))) is not None:
            return text
        position = end + 4
    return None


def _international_text(chunk: bytes) -> bytes | None:
    """The text of an ``iTXt`` chunk with the keyword ``Comment``, behind flags, language and translation."""
    keyword, _, rest = chunk.partition(b"\0")
    if keyword != b"Comment":
        return None
    compressed, parts = rest[:1] == b"\x01", rest[2:].split(b"\0", 2)
    if len(parts) < 3:
        raise FormatError("a damaged iTXt chunk")
    if not compressed:
        return parts[2]
    inflate = zlib.decompressobj()
    try:
        text = inflate.decompress(parts[2], COMMENT_LIMIT + 1)
    except zlib.error as error:
        raise FormatError(f"a damaged iTXt chunk: {error}") from error
    if not inflate.eof or len(text) > COMMENT_LIMIT:
        raise FormatError(f"an iTXt comment that is cut off or over {COMMENT_LIMIT} bytes")
    return text
