"""Sizes, times and tables, with the values of Ollama's own tests (ollama/ollama, format/*_test.go)."""

from __future__ import annotations

import pytest

from wanrun.cli.tables import first_lines, human_bytes, human_count, human_time, printable, section, table


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (999, "999 B"),
        (1000, "1 KB"),
        (1500, "1.5 KB"),
        (1999, "1.9 KB"),
        (9999, "9.9 KB"),
        (10_500, "10 KB"),
        (999_999, "999 KB"),
        (1_000_000, "1 MB"),
        (1_610_000_000, "1.6 GB"),
        (2_000_000_000, "2 GB"),
        (42_999_999_999, "42 GB"),
        (1_500_000_000_000, "1.5 TB"),
    ],
)
def test_bytes(size: int, text: str) -> None:
    assert human_bytes(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "Less than a second ago"),
        (0.4, "Less than a second ago"),
        (1, "1 second ago"),
        (59, "59 seconds ago"),
        (60, "About a minute ago"),
        (119, "About a minute ago"),
        (120, "2 minutes ago"),
        (3599, "59 minutes ago"),
        (3600, "About an hour ago"),
        (7200, "2 hours ago"),
        (47 * 3600, "47 hours ago"),
        (48 * 3600, "2 days ago"),
        (13 * 86400, "13 days ago"),
        (14 * 86400, "2 weeks ago"),
        (59 * 86400, "8 weeks ago"),
        (60 * 86400, "2 months ago"),
        (729 * 86400, "24 months ago"),
        (730 * 86400, "2 years ago"),
    ],
)
def test_times(seconds: float, text: str) -> None:
    assert human_time(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(999, "999"), (1500, "1.5K"), (14_288_491_584, "14.3B")])
def test_counts(count: int, text: str) -> None:
    assert human_count(count) == text


def test_tables() -> None:
    assert table(("NAME", "SIZE"), []) == "NAME    SIZE"
    assert table(("A", "B"), [("long", "x"), ("s", "y")]) == "A       B\nlong    x\ns       y"
    assert section("Model", [("a", "1"), ("bcd", "2")]) == "  Model\n    a      1\n    bcd    2\n"


def test_text_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[2J\r\nb\u202e猫") == "a\\x1b[2J\\r\\nb\\u202e猫"
    lines = first_lines("\n one\x07\n\ntwo\nthree")
    assert section("System", lines) == "  System\n    one\\x07\n    two\n    ...\n"
