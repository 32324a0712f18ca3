"""Answers with a file or a part of it: Range, If-Range and If-None-Match of RFC 9110."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from wanrun.errors import JobNotReady
from wanrun.server.failures import failure

_RANGE = re.compile(r"bytes=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.ASCII)
_CHUNK = 1 << 18


class NotSatisfiable(Exception):
    """A range that begins behind the end."""


def answer_file(request: Request, path: Path, media_type: str, etag: str) -> Response:
    """The file, the one range of it that is asked for, 304 for one that is known, 416 for a range beyond it.

    What is no range, or several, is answered with the whole file, which every client must understand.
    """
    headers = {
        "etag": etag,
        "accept-ranges": "bytes",
        "cache-control": "private, no-cache",
        "content-disposition": f'inline; filename="{path.name}"',
    }
    if known(request, etag):
        return Response(status_code=304, headers=headers)
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise JobNotReady(f"the file {path.name} is gone") from error
    size = os.fstat(file.fileno()).st_size
    asked = request.headers.get("range") if request.headers.get("if-range", etag) == etag else None
    try:
        part = parse_range(asked, size)
    except NotSatisfiable:
        file.close()
        message = f"the file has {size} bytes, and {asked!r:.60} lies beyond them"
        return failure(request.url.path, 416, message, {"content-range": f"bytes */{size}"})
    begin, end = part or (0, size)
    headers["content-length"] = str(end - begin)
    if part is not None:
        headers["content-range"] = f"bytes {begin}-{end - 1}/{size}"
    return StreamingResponse(
        _read(file, begin, end), 206 if part is not None else 200, headers, media_type=media_type
    )


def known(request: Request, etag: str) -> bool:
    """Whether the client has what has this ETag."""
    tags = request.headers.get("if-none-match", "").split(",")
    return any(tag.strip().removeprefix("W/") in ("*", etag) for tag in tags)


def parse_range(text: str | None, size: int) -> tuple[int, int] | None:
    """Begin and end of the part that a Range header asks for; None for all. Raises NotSatisfiable."""
    match = _RANGE.fullmatch(text or "")
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if first and last and int(last) < int(first):
        return None
    begin = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if begin >= size:
        raise NotSatisfiable
    return begin, end


def _read(file: BinaryIO, begin: int, end: int) -> Iterator[bytes]:
    with file:
        file.seek(begin)
        while begin < end and (chunk := file.read(min(_CHUNK, end - begin))):
            begin += len(chunk)
            yield chunk
