"""People use the page: they ask for videos, watch, cancel and come back, with a mouse or without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.runtime.machines import keep
from tests.server.browsing import PATIENCE_MS, chromium, faint, too_wide, unnamed, until, visiting
from tests.server.idle import idle
from tests.server.orders import order
from tests.server.serving import Server, start
from wanrun.store import pulling
from wanrun.store.creation import quiet
from wanrun.store.store import Store

expect.set_options(timeout=PATIENCE_MS)
KEY = "a key that nobody guesses"
#: More steps than anybody waits for.
LONG = 1000
DESK = {"viewport": {"width": 1280, "height": 900}}
HOSTILE = (
    "<img src=x onerror=alert(1)></h2><script>alert(1)</script> \u202e${7*7} {{ prompt }} &amp;" + "W" * 300
)
_PICTURE = "document.getElementById('preview').naturalWidth > 0"
_PLAYS = """(film => film.readyState >= 2 && film.videoWidth > 0 && film.currentTime > 0)(
  document.getElementById('film'))"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser: Browser, server: Server, http: httpx.Client) -> Iterator[Page]:
    try:
        with visiting(browser, server.url, **DESK) as opened:
            yield opened
    finally:
        for video in http.get("/v1/videos?limit=100").json()["data"]:
            http.post(f"/v1/videos/{video['id']}/cancel")


@pytest.fixture(scope="module")
def finished(server: Server) -> dict[str, Any]:
    """A video that was made before anybody came."""
    body = {"model": "wan-toy", "prompt": "a green ring growing", "size": "32x32", "num_frames": 5, "fps": 8}
    with httpx.Client(base_url=server.url, timeout=PATIENCE_MS / 1000) as client:
        made = client.post("/v1/videos", json=body | {"num_inference_steps": 2, "seed": 11}).json()
        client.get(f"/v1/videos/{made['id']}/events")  # until it is over
        done: dict[str, Any] = client.get(f"/v1/videos/{made['id']}").json()
    assert done["status"] == "completed"
    return done


def fill(page: Page, prompt: str, steps: int) -> None:
    """Write an order for a small video over the model's defaults."""
    expect(page.get_by_label("Width")).not_to_have_value("")
    page.get_by_label("Prompt", exact=True).fill(prompt)
    for label, value in (("Width", "32"), ("Height", "32"), ("Frames", "5"), ("Steps", str(steps))):
        page.get_by_label(label, exact=True).fill(value)


def job(page: Page, prompt: str) -> Locator:
    return page.locator("#jobs li", has_text=prompt)


def test_a_video_from_its_prompt_to_the_player(page: Page) -> None:
    long, short = "a red ball bouncing on a blue surface", "a yellow star moving left"
    fill(page, long, LONG)
    expect(page.locator("#plan-sum")).to_contain_text("It fits")
    assert page.locator("#plan-rows tr").count() >= 3
    page.get_by_role("button", name="Make video").click()
    expect(page.locator("#phase")).to_contain_text(f"of {LONG}")
    until(page, _PICTURE)
    fill(page, short, 2)
    page.get_by_role("button", name="Make video").click()
    expect(job(page, short)).to_contain_text("Waiting")

    page.reload()
    expect(page.locator("#stage-title")).to_have_text(short)
    expect(job(page, short)).to_contain_text("Waiting")
    expect(job(page, long)).to_contain_text(f"of {LONG}")
    job(page, long).get_by_role("link").click()
    expect(page.locator("#stage-title")).to_be_focused()
    until(page, _PICTURE)

    job(page, long).get_by_role("button").click()
    expect(page.locator("#notice")).to_have_text("Cancelled")
    page.locator("#videos a", has_text=short).first.click()
    until(page, _PLAYS)
    expect(page.locator("#queue")).to_be_hidden()


def test_where_a_video_comes_from_and_its_settings_again(page: Page, finished: dict[str, Any]) -> None:
    page.locator(f"#videos a[href='#{finished['id']}']").click()
    until(page, _PLAYS)
    page.get_by_text("Provenance").click()
    for words in ("wan-toy", "sha256", "torch", "32 × 32"):
        expect(page.locator("#origins")).to_contain_text(words)
    page.get_by_role("button", name="Run again with these settings").click()
    expect(page.get_by_label("Prompt", exact=True)).to_be_focused()
    expect(page.get_by_label("Prompt", exact=True)).to_have_value(finished["prompt"])
    page.get_by_text("More settings").click()
    for label, value in (("Seed", "11"), ("Frames", "5"), ("Steps", "2"), ("Width", "32")):
        expect(page.get_by_label(label, exact=True)).to_have_value(value)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert Path(download.value.path()).stat().st_size == finished["wanrun"]["bytes"]
    page.on("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("button", name="Delete").click()
    expect(page.locator("#stage-title")).to_have_text(finished["prompt"])


def test_a_video_is_run_again_to_the_last_byte(page: Page, http: httpx.Client) -> None:
    prompt = "a green ring growing"
    asked = {
        "model": "wan-toy",
        "prompt": prompt,
        "size": "32x32",
        "num_frames": 5,
        "num_inference_steps": 3,
        "schedule": "unipc",
        "sampler": "euler",
        "cross_frame": 0.5,
        "compose": 1.5,
        "guidance_rescale": 0.25,
        "flicker": 0.5,
        "precision": "fp32",
        "negative_prompt": "",
    }
    made = http.post("/v1/videos", json=asked).json()
    http.get(f"/v1/videos/{made['id']}/events")  # until it is over
    page.locator(f"#videos a[href='#{made['id']}']").click()
    address = page.url
    page.get_by_role("button", name="Run again with these settings").click()
    expect(page.get_by_label("Prompt", exact=True)).to_have_value(prompt)
    page.get_by_role("button", name="Make video").click()
    expect(page).not_to_have_url(address)
    until(page, _PLAYS)
    again = page.url.rpartition("#")[2]
    http.get(f"/v1/videos/{again}/events")  # until it is over: what plays may still be the first
    files = [http.get(f"/v1/videos/{each}/content").content for each in (made["id"], again)]
    assert again != made["id"]
    assert files[0] == files[1]


def test_what_is_written_outlasts_a_reload(page: Page) -> None:
    fill(page, "a red ba", 7)
    page.get_by_text("More settings").click()
    page.get_by_label("Schedule").fill("unipc")
    page.get_by_label("Negative prompt").fill("")
    page.reload()
    expect(page.get_by_label("Steps", exact=True)).to_have_value("7")
    for label, value in (("Prompt", "a red ba"), ("Width", "32"), ("Schedule", "unipc"), ("Seed", "")):
        expect(page.get_by_label(label, exact=True)).to_have_value(value)
    expect(page.get_by_label("Negative prompt")).to_have_value("")
    page.get_by_text("More settings").click()
    page.get_by_role("button", name="defaults").click()
    expect(page.get_by_label("Width")).to_have_value("64")
    page.reload()
    expect(page.get_by_label("Width")).to_have_value("64")
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("a red ba")
    other = page.context.new_page()
    other.goto(page.url)
    expect(other.get_by_label("Width")).to_have_value("64")
    expect(other.get_by_label("Prompt", exact=True)).to_have_value("")


def test_a_video_is_deleted(page: Page, http: httpx.Client) -> None:
    fill(page, "a white square growing on blue", LONG)
    page.get_by_label("Prompt", exact=True).press("Control+Enter")
    page.locator("#stage").get_by_role("button", name="Cancel").click()
    page.on("dialog", lambda dialog: dialog.accept())
    address = page.url
    page.get_by_role("button", name="Delete").click()
    expect(page.locator(f"#videos a[href='#{address.rpartition('#')[2]}']")).to_have_count(0)
    assert http.get(f"/v1/videos/{address.rpartition('#')[2]}").status_code == 404


def test_without_a_mouse(page: Page) -> None:
    expect(page.get_by_label("Width")).not_to_have_value("")

    def tab_to(selector: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            seen = page.evaluate(
                "(active => [active.matches(':focus-visible'), getComputedStyle(active).outlineStyle])"
                "(document.activeElement)"
            )
            assert seen == [True, "solid"] or seen == [True, "auto"]
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(f"{selector} cannot be reached")

    tab_to(".skip")
    tab_to("#prompt")
    page.keyboard.type("a white square")
    for field, value in (("width", "32"), ("height", "32"), ("frames", "5"), ("steps", str(LONG))):
        tab_to(f"#{field}")
        page.keyboard.type(value)
    tab_to("#more summary")
    page.keyboard.press("Enter")
    tab_to("#seed")
    page.keyboard.type("7")
    tab_to("#start")
    page.keyboard.press("Enter")
    expect(page.locator("#facts")).to_contain_text(f"{LONG} steps · seed 7")
    expect(page.locator("#said")).to_contain_text("Denoising")
    tab_to("#jobs a")
    page.keyboard.press("Enter")
    expect(page.locator("#stage-title")).to_be_focused()
    tab_to("#cancel")
    page.keyboard.press("Enter")
    expect(page.locator("#said")).to_have_text("Cancelled")
    assert unnamed(page) == []


def test_words_stay_words(page: Page, http: httpx.Client) -> None:
    fill(page, HOSTILE, LONG)
    page.get_by_role("button", name="Make video").click()
    expect(page.locator("#stage-title")).to_have_text(HOSTILE)
    expect(job(page, "onerror")).to_have_count(1)
    page.locator("#stage").get_by_role("button", name="Cancel").click()
    expect(page.locator("#videos a", has_text="onerror").first).to_be_visible()
    assert page.locator("main script, main img[src='x']").count() == 0
    assert not too_wide(page)


def test_mistakes_are_said(page: Page) -> None:
    fill(page, "", 2)
    page.get_by_role("button", name="Make video").click()
    expect(page.get_by_label("Prompt", exact=True)).to_be_focused()
    fill(page, "a red ball", 2)
    page.get_by_text("More settings").click()
    page.get_by_label("Sampler").fill("nothing")
    page.get_by_role("button", name="Make video").click()
    expect(page.locator("#mistake")).to_contain_text("sampler 'nothing' is not known")
    expect(page.locator("#plan-sum")).to_contain_text("sampler 'nothing' is not known")
    page.get_by_role("button", name="defaults").click()
    expect(page.get_by_label("Sampler")).not_to_have_value("nothing")
    expect(page.locator("#plan-sum")).to_contain_text("It fits")


def test_what_fits_instead_and_what_is_older(
    browser: Browser, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANRUN_MEMORY", "300MB")
    keep(home)
    pulling.pull(Store(home), "wan-toy", quiet)
    with idle(home, queue=200) as server:
        jobs = server.service.jobs
        for _ in range(103):
            jobs.cancel(jobs.create(order()).id)
        with visiting(browser, server.url, **DESK) as page:
            expect(page.locator("#videos li")).to_have_count(100)
            page.get_by_role("button", name="Show older videos").click()
            expect(page.locator("#videos li")).to_have_count(103)
            jobs.cancel(jobs.create(order()).id)
            expect(page.locator("#videos li")).to_have_count(104)
            fill(page, "a red ball", 2)
            for side in ("Width", "Height"):
                page.get_by_label(side).fill("512")
            expect(page.locator("#plan-sum")).to_contain_text("It does not fit")
            page.locator("#plan-ways button").first.click()
            expect(page.locator("#plan-sum")).to_contain_text("It fits")
            expect(page.get_by_label("Width")).not_to_have_value("512")
            expect(page.get_by_role("button", name="Make video")).to_be_focused()


def test_a_server_that_asks_for_a_key_and_goes(
    browser: Browser, server: Server, finished: dict[str, Any], tmp_path: Path
) -> None:
    with start(server.home, tmp_path / "log", WANRUN_API_KEY=KEY) as guarded:
        opened = visiting(browser, f"{guarded.url}/#{finished['id']}", **DESK)
        page = opened.__enter__()
        for key in ("wrong", KEY):
            page.get_by_label("API key").fill(key)
            page.get_by_role("button", name="Continue").click()
        until(page, _PLAYS)
        expect(page.get_by_label("Width")).not_to_have_value("")
        page.reload()
        until(page, _PLAYS)
        until(page, "document.querySelector('#videos img').naturalWidth > 0")
    expect(page.locator("#state")).to_contain_text("does not answer")
    opened.__exit__(None, None, None)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_it_fits_and_can_be_read(
    browser: Browser, server: Server, finished: dict[str, Any], scheme: str, width: int
) -> None:
    options = {
        "viewport": {"width": width, "height": 840},
        "color_scheme": scheme,
        "reduced_motion": "reduce",
    }
    with visiting(browser, f"{server.url}/#{finished['id']}", **options) as page:
        expect(page.locator("#plan-sum")).to_contain_text("It fits")
        until(page, "document.getElementById('film').readyState >= 2")
        assert page.evaluate("document.getElementById('film').paused")
        page.get_by_text("More settings").click()
        page.get_by_text("Provenance").click()
        expect(page.locator("#origins")).to_contain_text("torch")
        assert not too_wide(page)
        assert faint(page) == []
        assert unnamed(page) == []
