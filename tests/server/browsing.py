"""A headless browser for the page's tests, which notes whatever a page should not do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

#: A test's machine may be busy with anything.
PATIENCE_MS = 180_000
_ARGUMENTS = (
    "--no-sandbox",  # which a root user has none of
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, which plays H.264 and makes no request of its own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=list(_ARGUMENTS))
        yield browser
        browser.close()


@contextmanager
def visiting(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """A page of its own at ``url``; afterwards, no error was logged and nothing asked of another host."""
    wrong: list[str] = []

    def on_console(message: ConsoleMessage) -> None:
        # the browser logs every answer that is an error; tests say themselves what they expect of those
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            wrong.append(message.text)

    def on_request(request: Request) -> None:
        target = urlsplit(request.url)
        if target.scheme not in ("data", "blob") and target.netloc != urlsplit(url).netloc:
            wrong.append(f"asked {request.url}")

    context = browser.new_context(**options)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.on("console", on_console)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", on_request)
    page.goto(url)
    yield page
    context.close()
    assert wrong == [], wrong


def until(page: Page, expression: str) -> None:
    """Wait for the expression to be true; Playwright's own way is eval, which the page's policy refuses."""
    patience = time.monotonic() + PATIENCE_MS / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < patience, f"never: {expression}"
        page.wait_for_timeout(50)


def unnamed(page: Page) -> list[str]:
    """Visible controls that a screen reader has no name for."""
    return list(page.evaluate(_UNNAMED))


def faint(page: Page) -> list[tuple[str, float]]:
    """Visible texts whose contrast with what is behind them is less than WCAG 2 AA asks for, and that."""
    return list(page.evaluate(_FAINT))


def too_wide(page: Page) -> bool:
    """Whether it has to be scrolled sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth > innerWidth"))


_UNNAMED = """() => [...document.querySelectorAll('button, input, select, textarea, a, progress, video')]
  .filter(node => node.checkVisibility() && !node.labels?.length && !node.textContent.trim()
    && !node.getAttribute('aria-label') && !node.getAttribute('aria-labelledby'))
  .map(node => node.outerHTML)"""
_FAINT = """() => {
  const linear = value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const luminance = ([red, green, blue]) =>
    0.2126 * linear(red / 255) + 0.7152 * linear(green / 255) + 0.0722 * linear(blue / 255);
  const colour = (node, name) => getComputedStyle(node)[name].match(/[\\d.]+/g).map(Number);
  const behind = node => {
    for (; node; node = node.parentElement) {
      const found = colour(node, 'backgroundColor');
      if ((found[3] ?? 1) > 0) return found;
    }
    return [255, 255, 255];
  };
  const hasText = node => [...node.childNodes].some(each => each.nodeType === 3 && each.data.trim());
  return [...document.querySelectorAll('body *')]
    .filter(node => node.checkVisibility() && hasText(node))
    .map(node => {
      const both = [luminance(colour(node, 'color')), luminance(behind(node))].sort((a, b) => b - a);
      return [node.textContent.trim(), (both[0] + 0.05) / (both[1] + 0.05)];
    })
    .filter(([, ratio]) => ratio < 4.5);
}"""
