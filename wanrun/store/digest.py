"""The name of a blob: the sha256 of its bytes, as a type that cannot hold anything else."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Self

from wanrun.errors import InvalidRequest

_HEX = re.compile(r"[0-9a-f]{64}")
_PREFIX = "sha256:"


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """A sha256; paths of blobs are built from this type only, so nothing else can become one."""

    hex: str

    def __post_init__(self) -> None:
        if not isinstance(self.hex, str) or not _HEX.fullmatch(self.hex):
            raise InvalidRequest(f"not a sha256 digest: {self.hex!r:.100}")

    def __str__(self) -> str:
        return _PREFIX + self.hex

    @property
    def file_name(self) -> str:
        """Name of the blob's file: a colon is not allowed in file names everywhere."""
        return f"sha256-{self.hex}"

    @property
    def short(self) -> str:
        """The first 12 digits, for people."""
        return self.hex[:12]

    @classmethod
    def parse(cls, text: object) -> Self:
        """The digest written as ``sha256:<64 lower-case hex digits>``; InvalidRequest for anything else."""
        if not isinstance(text, str) or not text.startswith(_PREFIX):
            raise InvalidRequest(f"not a sha256 digest: {text!r:.100}")
        return cls(text.removeprefix(_PREFIX))

    @classmethod
    def of_file_name(cls, name: str) -> Self | None:
        """The digest whose blob is called ``name``, or None for a file that is no blob."""
        digits = name.removeprefix("sha256-")
        return cls(digits) if digits != name and _HEX.fullmatch(digits) else None

    @classmethod
    def of(cls, data: bytes) -> Self:
        """The digest of ``data``."""
        return cls(hashlib.sha256(data).hexdigest())
