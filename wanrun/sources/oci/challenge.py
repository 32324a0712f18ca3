"""Reads what a registry asks for when it answers 401 (RFC 9110, section 11; distribution, docs/spec/auth)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_MAX_LENGTH = 8192
_PIECE = re.compile(
    r'(?P<key>[A-Za-z0-9_-]+)\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s,"]+))'
    r"|(?P<scheme>[A-Za-z][A-Za-z0-9_-]*)"
)


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to identify oneself: ``scheme`` and the parameters' names are in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(header: str) -> list[Challenge]:
    """The challenges of a ``WWW-Authenticate`` header, in order; what cannot be read is passed over."""
    found: list[tuple[str, dict[str, str]]] = []
    for match in _PIECE.finditer(header[:_MAX_LENGTH]):
        if match["scheme"] is not None:
            found.append((match["scheme"].lower(), {}))
        elif found:
            quoted = match["quoted"]
            value = match["plain"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            found[-1][1].setdefault(match["key"].lower(), value)
    return [Challenge(scheme, parameters) for scheme, parameters in found]
