"""Where a setting's value comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from wanrun import settings
from wanrun.errors import InvalidRequest


def test_the_environment_beats_the_config_beats_the_default(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings.home() == home
    assert settings.get("device") == "auto"
    home.mkdir()
    (home / "config.yaml").write_text("device: cuda:1\n")
    assert settings.get("device") == "cuda:1"
    monkeypatch.setenv("WANRUN_DEVICE", " cpu ")
    assert settings.get("device") == "cpu"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("divice: cpu", "divice"),
        ("home: /", "home"),
        ("- a\n", "keys and values"),
        ("a: [", "YAML"),
        ("a: !!python/object/apply:os.system [id]", "YAML"),
    ],
)
def test_a_config_with_a_mistake_says_which(text: str, reason: str, home: Path) -> None:
    home.mkdir()
    (home / "config.yaml").write_text(text)
    with pytest.raises(InvalidRequest, match=reason):
        settings.get("device")


def test_threads_are_counted_or_given(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.threads() >= 1
    monkeypatch.setenv("WANRUN_THREADS", "3")
    assert settings.threads() == 3
    monkeypatch.setenv("WANRUN_THREADS", "many")
    with pytest.raises(InvalidRequest, match="many"):
        settings.threads()


def test_plugins_are_all_none_or_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.plugins() is None
    monkeypatch.setenv("WANRUN_PLUGINS", "")
    assert settings.plugins() == set()
    monkeypatch.setenv("WANRUN_PLUGINS", "one, two")
    assert settings.plugins() == {"one", "two"}
