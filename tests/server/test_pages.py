"""The page's files: who gets which, under what policy."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

import wanrun.server

FILES = sorted((Path(wanrun.server.__file__).parent / "page").iterdir())


def test_programs_get_a_line_and_browsers_the_page(http: httpx.Client) -> None:
    for headers in ({}, {"Accept": "application/json"}, {"Accept": "text/plain"}):
        line = http.get("/", headers=headers)
        assert (line.status_code, line.text) == (200, "wanrun is running")
        assert line.headers["content-type"].startswith("text/plain")
    assert (http.head("/").status_code, http.head("/").content) == (200, b"")
    page = http.get("/", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.text.startswith("<!doctype html>")
    assert "Accept" in page.headers["vary"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.name))
def test_every_file_is_served_as_what_it_is(http: httpx.Client, path: Path) -> None:
    answer = http.get(f"/page/{path.name}")
    assert answer.content == path.read_bytes()
    kinds = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
    assert answer.headers["content-type"].startswith(kinds[path.suffix])
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-cache"
    again = http.get(f"/page/{path.name}", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert http.get(f"/page/{path.name}", headers={"If-None-Match": '"another"'}).status_code == 200


def test_the_policy_lets_nothing_in(http: httpx.Client) -> None:
    policy = dict(
        part.split(" ", 1)
        for part in http.get("/", headers={"Accept": "text/html"})
        .headers["content-security-policy"]
        .split("; ")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["form-action"] == policy["base-uri"] == "'none'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in str(policy)


@pytest.mark.parametrize(
    "path", ["nothing.js", "..%2fpages.py", "%2e%2e/pages.py", "", "index.html%00", "index.html/", "pages.py"]
)
def test_there_is_nothing_else(http: httpx.Client, path: str) -> None:
    assert http.get(f"/page/{path}").status_code in (404, 307)
    assert http.post("/page/index.html").status_code == 405


def test_the_files_bring_their_code_and_styles_in_files() -> None:
    texts = {path.name: path.read_text() for path in FILES}
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", texts["index.html"])
    for name, text in texts.items():
        known = {"http://www.w3.org/2000/svg"}
        assert set(re.findall(r"(?:https?:)?//[\w.-]+\.[\w./-]+", text)) <= known, name
        if name.endswith(".js"):
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", text), (
                name
            )
            for module in re.findall(r'from "([^"]+)"', text):
                assert module.removeprefix("/page/") in texts, f"{name} imports {module}"


def test_every_name_that_the_code_looks_for_is_in_the_page() -> None:
    index = (FILES[0].parent / "index.html").read_text()
    for path in FILES:
        for name in re.findall(r'(?:part|getElementById)\("([^"]+)"\)', path.read_text()):
            assert f'id="{name}"' in index, f"{path.name} looks for {name}"
