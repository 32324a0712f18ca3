"""The shipped library."""

from __future__ import annotations

from pathlib import Path

import pytest

from wanrun.errors import InvalidRequest
from wanrun.modelfile import library
from wanrun.modelfile.grammar import read


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with a library of its own; the module asks where it lies by its own file."""
    monkeypatch.setattr(library, "__file__", str(tmp_path / "wanrun" / "modelfile" / "library.py"))
    for name in (
        "wan-x/Modelfile",
        "wan-x/Modelfile.Q4_K_M",
        "wan-x/Modelfile.bad~",
        "wan-x/Modelfiles",
        "y z/Modelfile",
    ):
        path = tmp_path / "modelfiles" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("FROM a\n", encoding="utf-8")
    return tmp_path


def test_names_and_tags(folder: Path) -> None:
    assert [str(name) for name in library.names()] == ["wan-x:latest", "wan-x:q4_k_m"]
    assert library.find("WAN-X") == folder / "modelfiles" / "wan-x" / "Modelfile"
    assert library.find("wan-x", "q4_k_m") == folder / "modelfiles" / "wan-x" / "Modelfile.Q4_K_M"
    assert library.find("wan-y") is None
    assert library.find("wan-x", "q8_0") is None


def test_an_installed_library_wins(folder: Path) -> None:
    inside = folder / "wanrun" / "modelfiles" / "wan-x" / "Modelfile"
    inside.parent.mkdir(parents=True)
    inside.write_text("FROM b\n", encoding="utf-8")
    assert library.find("wan-x") == inside


def test_a_name_is_never_a_path() -> None:
    for name in ("..", "../wan-x", "a/b", "", "%2e%2e", "a\0"):
        with pytest.raises(InvalidRequest):
            library.find(name)


def test_the_real_library_is_sound() -> None:
    for name in library.names():
        path = library.find(name.model, name.tag)
        assert path is not None
        read(path)
