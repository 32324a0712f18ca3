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


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("1GB", 10**9), ("512 mb", 512 * 10**6), ("1.5GiB", 3 << 29), ("2k", 2000), ("77b", 77)],
)
def test_sizes_have_units(monkeypatch: pytest.MonkeyPatch, text: str, size: int) -> None:
    monkeypatch.setenv("WANRUN_CACHE", text)
    assert settings.size("cache") == size


@pytest.mark.parametrize("text", ["", "-1", "1e9", "GB", "1 0GB", "9" * 40, "1PB"])
def test_what_is_no_size_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("WANRUN_CACHE", text)
    with pytest.raises(InvalidRequest, match="WANRUN_CACHE"):
        settings.size("cache")


def test_memory_is_what_is_free_or_an_amount(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.memory() is None
    monkeypatch.setenv("WANRUN_MEMORY", "8GB")
    assert settings.memory() == 8 * 10**9
    monkeypatch.setenv("WANRUN_MEMORY", "all")
    with pytest.raises(InvalidRequest, match="WANRUN_MEMORY"):
        settings.memory()


def test_compiling_is_on_or_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not settings.compiled()
    monkeypatch.setenv("WANRUN_COMPILE", "on")
    assert settings.compiled()
    monkeypatch.setenv("WANRUN_COMPILE", "yes")
    with pytest.raises(InvalidRequest, match="on or off, not 'yes'"):
        settings.compiled()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("0", 0), ("300", 300), ("-1", -1), ("5m", 300), ("1h30m", 5400), ("-1m", -60), ("1.5s", 1.5)),
        *((".5h", 1800), ("100ms", 0.1), ("720h", 2_592_000), ("0s", 0)),
    ],
)
def test_durations_are_gos_or_seconds(monkeypatch: pytest.MonkeyPatch, text: str, seconds: float) -> None:
    monkeypatch.setenv("WANRUN_KEEP_ALIVE", text)
    assert settings.duration("keep_alive") == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5 m", "m", "1d", "1h-5m", "--1", "1e3", "5mm", "9" * 200, "٣s"])
def test_what_is_no_duration_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("WANRUN_KEEP_ALIVE", text)
    with pytest.raises(InvalidRequest, match="WANRUN_KEEP_ALIVE"):
        settings.duration("keep_alive")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:11435", ("127.0.0.1", 11435)),
        ("0.0.0.0", ("0.0.0.0", 11435)),
        (":5000", ("127.0.0.1", 5000)),
        ("http://films.example:80/", ("films.example", 80)),
        ("[::1]:1", ("::1", 1)),
    ],
)
def test_addresses(monkeypatch: pytest.MonkeyPatch, text: str, address: tuple[str, int]) -> None:
    monkeypatch.setenv("WANRUN_HOST", text)
    assert settings.address() == address


@pytest.mark.parametrize("text", ["a:b", "127.0.0.1:70000", "::1", "https://x", "a b:1", "x:1/path", "u@h:1"])
def test_what_is_no_address_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("WANRUN_HOST", text)
    with pytest.raises(InvalidRequest, match="WANRUN_HOST"):
        settings.address()
