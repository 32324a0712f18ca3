"""What is kept of a text encoder's header."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import wanrun
from wanrun.errors import ModelNotFound
from wanrun.runtime.parts import read_encoder
from wanrun.runtime.remembered import text_encoder
from wanrun.types import Component


def test_a_header_is_read_once(home: Path) -> None:
    component = wanrun.load("wan-toy").components["text_encoder"]
    first = text_encoder(component)
    assert first == read_encoder(component)
    gone = Component(component.role, home / "gone", component.digest, component.size, "")
    assert text_encoder(gone) == first
    with pytest.raises(ModelNotFound):
        read_encoder(gone)


@pytest.mark.parametrize(
    "damage", ["", "[]", "null", "{}", '{"stored": 1}', "[" * 99_999, '{"width": -1}', '{"width": true}']
)
def test_what_is_damaged_is_read_again(damage: str, home: Path) -> None:
    component = wanrun.load("wan-toy").components["text_encoder"]
    first = text_encoder(component)
    (path,) = (home / "cache" / "encoders").iterdir()
    kept = json.loads(path.read_text())
    if damage.startswith('{"width'):
        damage = json.dumps(kept | json.loads(damage))
    path.write_text(damage)
    assert text_encoder(component) == first
    assert json.loads(path.read_text()) == kept
