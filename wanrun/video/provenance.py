"""Turns provenance into the comment a video carries, and a video's comment back into provenance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wanrun.errors import FormatError, InvalidRequest, ModelNotFound
from wanrun.video.comments import COMMENT_LIMIT, find_comment


def provenance_text(metadata: Mapping[str, Any]) -> str:
    """One line of JSON in the order given, readable in any player's properties.

    Raises InvalidRequest for values that JSON cannot hold, or more than ``COMMENT_LIMIT`` bytes.
    """
    try:
        text = json.dumps(dict(metadata), ensure_ascii=False, allow_nan=False)
        if not _is_unicode(text):
            text = json.dumps(dict(metadata), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"provenance must be plain JSON values: {error}") from error
    if len(text.encode()) > COMMENT_LIMIT:
        raise InvalidRequest(
            f"provenance must stay within {COMMENT_LIMIT} bytes, not {len(text.encode())}: shorten it"
        )
    return text


def _is_unicode(text: str) -> bool:
    """Whether ``text`` is free of lone surrogates, which a command line may bring and UTF-8 cannot hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_provenance(path: Path) -> dict[str, Any]:
    """What ``open_writer`` was given as metadata, from an mp4, webm, gif or png file or a folder of frames.

    Raises ModelNotFound where there is no such file and FormatError where it holds no provenance.
    """
    if path.is_dir():
        path = min(path.glob("*.png"), default=path / "00001.png")
    if not path.is_file():
        raise ModelNotFound(f"there is no file {path}")
    try:
        with path.open("rb") as file:
            comment = find_comment(file)
    except FormatError as error:
        raise FormatError(f"{path} has no readable provenance: {error}") from error
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}") from error
    if comment is None:
        raise FormatError(
            f"{path} carries no provenance: it was not made here, or a tool removed its comment"
        )
    return _parse(comment, path)


def _parse(comment: bytes, path: Path) -> dict[str, Any]:
    try:
        provenance = json.loads(comment.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path} has a comment, but it is not provenance: {error}") from error
    if not isinstance(provenance, dict):
        raise FormatError(f"{path} has a comment, but it is not provenance: {type(provenance).__name__}")
    return provenance


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
