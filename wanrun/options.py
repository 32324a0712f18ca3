"""Reads a plugin's name with options behind it, as people write it: ``ddim:eta=0.5``.

    NAME[:OPTION,…]    OPTION is KEY=VALUE, or VALUE where the plugin takes a list: ``custom:1,0.9,0.4,0``

Case does not matter. What a plugin takes, and of which type, is for :mod:`wanrun.plugins` to say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from wanrun.errors import InvalidRequest

#: Characters of a whole text, and options in it: both far above what anybody means.
LENGTH_LIMIT = 1024
OPTIONS_LIMIT = 128

#: What a text must be, for people.
EXPECTS = "a name of letters, digits, '+', '-', '.' and '_', with options behind it as in name:key=value,…"

_NAME = re.compile(r"[a-z0-9][a-z0-9+._-]{0,63}", re.ASCII)
_KEY = re.compile(r"[a-z][a-z0-9_]{0,31}", re.ASCII)
_VALUE = re.compile(r"[a-z0-9+._-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Named:
    """A plugin's name, the values of its list, and its other options by key, all lower case."""

    name: str
    values: tuple[str, ...] = ()
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        written = [*self.values, *(f"{key}={value}" for key, value in self.options)]
        return f"{self.name}:{','.join(written)}" if written else self.name


def parse(text: str) -> Named:
    """The plugin that ``text`` names; ``parse(str(x)) == x``.

    Raises InvalidRequest for another form than the grammar's, a key that comes twice or too long a text.
    """
    if len(text) > LENGTH_LIMIT:
        raise InvalidRequest(f"it has {len(text)} characters; at most {LENGTH_LIMIT} are read")
    name, colon, rest = text.lower().partition(":")
    if not text.isascii() or not _NAME.fullmatch(name):
        raise InvalidRequest(f"{name[:60]!r} is no name")
    written = rest.split(",") if colon else []
    if len(written) > OPTIONS_LIMIT:
        raise InvalidRequest(f"{name} is given {len(written)} options; at most {OPTIONS_LIMIT} are read")
    values: list[str] = []
    options: dict[str, str] = {}
    for each in written:
        key, equals, value = each.rpartition("=")
        if not _VALUE.fullmatch(value) or (equals and not _KEY.fullmatch(key)):
            raise InvalidRequest(f"an option of {name} is written key=value or value, not {each[:60]!r}")
        if key in options:
            raise InvalidRequest(f"{name} is given {key} twice")
        if equals:
            options[key] = value
        elif options:
            raise InvalidRequest(f"write the values of {name} before its options: {value} comes late")
        else:
            values.append(value)
    return Named(name, tuple(values), tuple(options.items()))
