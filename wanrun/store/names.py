"""The names of bundles: ``[host/][namespace/]model[:tag]``, validated part by part.

The shape is Ollama's (ollama/ollama, types/model/name.go). Names are case-insensitive; they are kept in lower
case, so that equal names are equal values and one file, on every file system.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from wanrun.errors import InvalidRequest

#: Where a name without a host belongs; never contacted.
DEFAULT_HOST = "wanrun.local"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"

# A part cannot start with a dot, so none is "." or ".."; none holds a separator, a percent sign or a NUL.
_PARTS = {
    "host": re.compile(r"[a-z0-9_][a-z0-9_.:-]{0,252}"),
    "namespace": re.compile(r"[a-z0-9_][a-z0-9_-]{0,79}"),
    "model": re.compile(r"[a-z0-9_][a-z0-9_.-]{0,79}"),
    "tag": re.compile(r"[a-z0-9_][a-z0-9_.-]{0,79}"),
}
#: What :func:`parse_name` takes, as a regular expression of JSON Schema.
PATTERN = "^((HOST/)?NAMESPACE/)?MODEL(:TAG)?$"
for _part, _pattern in _PARTS.items():
    PATTERN = PATTERN.replace(_part.upper(), _pattern.pattern.replace("a-z", "A-Za-z"))


@dataclass(frozen=True, slots=True, order=True)
class Name:
    """A bundle's full name; ``str()`` gives its shortest form, always with the tag."""

    host: str
    namespace: str
    model: str
    tag: str

    def __post_init__(self) -> None:
        for part, pattern in _PARTS.items():
            value = getattr(self, part)
            if not isinstance(value, str) or not pattern.fullmatch(value):
                raise InvalidRequest(f"invalid {part} {value!r:.100} in a bundle's name")

    def __str__(self) -> str:
        host = "" if self.host == DEFAULT_HOST else f"{self.host}/"
        namespace = "" if not host and self.namespace == DEFAULT_NAMESPACE else f"{self.namespace}/"
        return f"{host}{namespace}{self.model}:{self.tag}"

    @property
    def parts(self) -> tuple[str, str, str, str]:
        """Host, namespace, model and tag: the path below the manifests' folder."""
        return self.host, self.namespace, self.model, self.tag


def parse_name(text: str) -> Name:
    """The name that ``text`` writes, missing parts filled in; InvalidRequest when it is none."""
    head, slash, last = text.rpartition("/")
    model, colon, tag = last.partition(":")
    host, _, namespace = head.rpartition("/")
    promised = [(slash, namespace), (colon, tag), ("/" if "/" in head else "", host)]
    if not text.isascii() or any(mark and not part for mark, part in promised):
        raise _invalid(text)
    try:
        return Name(
            host.lower() or DEFAULT_HOST,
            namespace.lower() or DEFAULT_NAMESPACE,
            model.lower(),
            tag.lower() or DEFAULT_TAG,
        )
    except InvalidRequest as error:
        raise _invalid(text) from error


def _invalid(text: str) -> InvalidRequest:
    return InvalidRequest(
        f"invalid model name: {text!r:.100}; a name is [host/][namespace/]model[:tag], "
        "of letters, digits, '_', '-' and '.', each part starting with a letter, digit or '_'"
    )
