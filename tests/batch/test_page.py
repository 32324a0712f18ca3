"""The page of a batch in a real browser, opened as a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.server.browsing import chromium, visiting
from tests.server.orders import REQUEST
from wanrun.batch.page import Entry, page
from wanrun.batch.sheet import save_sheet
from wanrun.batch.shots import Shot
from wanrun.batch.works import Work
from wanrun.types import Bundle
from wanrun.video.writer import open_writer

_EVIL = '</h2><script>document.title="caught"</script><img src=http://127.0.0.1:9/x onerror=alert(1)>"\'&'


def work(path: Path, prompt: str = "a red ball", **varied: str) -> Work:
    shot = Shot("m", prompt, "", {"steps": 3, "negative": _EVIL}, varied)
    return Work(shot, Bundle("m", {}), replace(REQUEST, prompt=prompt, width=32, height=16, frames=9), path)


@pytest.fixture
def made(tmp_path: Path) -> list[Work]:
    """Three videos, one of them with a name that no URL takes as it is."""
    works = [
        work(tmp_path / "a.mp4"),
        work(tmp_path / "b #1?%41 星.webm", _EVIL, seed=_EVIL),
        work(tmp_path / "c.gif", "a star", seed="2"),
    ]
    for number, each in enumerate(works):
        with open_writer(each.path, 8) as writer:
            for level in range(9):
                writer.write(np.full((16, 32, 3), 28 * level + number, np.uint8))
    return works


def test_a_browser_shows_every_video_and_asks_nobody(made: list[Work], tmp_path: Path) -> None:
    entries = [Entry(each) for each in made]
    entries += [Entry(work(tmp_path / "d.mp4"), problem=_EVIL), Entry(work(tmp_path / "e.mp4"))]
    (tmp_path / "index.html").write_text(page(_EVIL, entries, "sheet.png"), "utf-8")
    with chromium() as browser, visiting(browser, (tmp_path / "index.html").as_uri()) as seen:
        seen.wait_for_function("[...document.querySelectorAll('video')].every(v => v.readyState > 0)")
        sizes = seen.evaluate(
            "[...document.querySelectorAll('video')].map(v => [v.videoWidth, v.videoHeight])"
        )
        assert sizes == [[32, 16], [32, 16]]
        assert seen.evaluate("document.querySelector('img').naturalWidth") == 32
        assert seen.title() == _EVIL
        assert seen.locator("script, iframe, form").count() == 0
        assert seen.locator("h2").all_inner_texts()[1] == f"2. {_EVIL}"
        assert seen.locator(".wrong").inner_text() == f"Failed: {_EVIL}"
        assert "3 of 5 videos, 1 failed, contact sheet" in seen.locator("main").inner_text()
        assert "Not made yet." in seen.locator("main").inner_text()
        # by keyboard alone: from the link over the videos' controls to what is folded away
        seen.keyboard.press("Tab")
        assert seen.evaluate("document.activeElement.textContent") == "contact sheet"
        for _ in range(20):
            seen.keyboard.press("Tab")
            if seen.evaluate("document.activeElement.tagName") == "SUMMARY":
                break
        seen.keyboard.press("Enter")
        assert seen.locator("details[open] dd").first.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_in_light_and_dark(scheme: str, tmp_path: Path) -> None:
    entries = [Entry(work(tmp_path / "d.mp4"), problem="no"), Entry(work(tmp_path / "e.mp4"))]
    (tmp_path / "index.html").write_text(page("x", entries), "utf-8")
    colour = "element => getComputedStyle(element).color.match(/\\d+/g).slice(0, 3).map(Number)"
    back = "element => getComputedStyle(element).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
    with (
        chromium() as browser,
        visiting(browser, (tmp_path / "index.html").as_uri(), color_scheme=scheme) as seen,
    ):
        ground = seen.locator("li").first.evaluate(back)
        assert (ground[0] < 128) == (scheme == "dark")
        for part in ("h2", ".wrong", ".soft", "summary"):
            assert _contrast(seen.locator(part).first.evaluate(colour), ground) >= 4.5, part


def test_the_sheet_has_every_video_that_can_be_read(made: list[Work], tmp_path: Path) -> None:
    made[0].path.write_bytes(b"no video")
    assert save_sheet([*made, work(tmp_path / "missing.mp4")], tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    strip = 6 * 32 + 5 * 2
    assert sheet.shape == (18 + 16 + 2 * 8, 2 * (strip + 8) + 8, 3)
    for left in (8, 8 + strip + 8):
        levels = sheet[18 + 8 + 8, left + 16 : left + strip : 34].mean(1)
        assert len(levels) == 6
        assert levels[0] < 10 and levels[-1] > 210 and (np.diff(levels) > 20).all()
    assert not save_sheet([work(tmp_path / "missing.mp4")], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def _contrast(one: list[int], other: list[int]) -> float:
    """Of two colours, as WCAG 2 defines it."""
    lights = sorted(_light(colour) for colour in (one, other))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def _light(colour: list[int]) -> float:
    parts = [value / 255 for value in colour]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
