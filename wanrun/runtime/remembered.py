"""Remembers what a text encoder's header says.

Its vocabulary of 256,000 words takes longer to read than all the rest of a plan, and a blob never changes.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path

from wanrun import settings
from wanrun.errors import StoreError
from wanrun.runtime.parts import read_encoder
from wanrun.runtime.shapes import Stored, TextEncoder
from wanrun.store.durable import write_file
from wanrun.types import Component


def text_encoder(component: Component) -> TextEncoder:
    """The encoder in ``component``, from its header or what was kept of it; raises as ``read_header``."""
    path = _path(component)
    try:
        return _parse(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        encoder = read_encoder(component)
    with suppress(StoreError, OSError):
        write_file(path, json.dumps(asdict(encoder)).encode())
    return encoder


def _path(component: Component) -> Path:
    return settings.home() / "cache" / "encoders" / f"{component.digest.rpartition(':')[2]}.json"


def _parse(values: dict[str, object]) -> TextEncoder:
    """The values that were written down; ValueError, TypeError or KeyError unless they are an encoder's."""
    stored = values.pop("stored")
    if not isinstance(stored, dict) or {field.name for field in fields(Stored)} != set(stored):
        raise ValueError("other fields than this version's")
    kind = values.pop("kind")
    if not isinstance(kind, str) or not all(
        _is_amount(each) for each in (*stored.values(), *values.values())
    ):
        raise ValueError("no numbers")
    return TextEncoder(kind=kind, stored=Stored(**stored), **values)  # type: ignore[arg-type]


def _is_amount(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 60
