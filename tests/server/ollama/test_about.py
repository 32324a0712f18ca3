"""A server says what it is."""

from __future__ import annotations

import httpx

from wanrun import __version__


def test_the_version(http: httpx.Client) -> None:
    assert http.get("/api/version").json() == {"version": __version__}
    assert http.head("/api/version").status_code == 200


def test_paths_that_lead_nowhere(http: httpx.Client) -> None:
    missing = http.get("/api/nothing")
    assert (missing.status_code, missing.json()) == (404, {"error": "not found"})
    wrong = http.put("/api/version")
    assert (wrong.status_code, wrong.json()) == (405, {"error": "method not allowed"})
    assert http.get("/v1/nothing").json()["error"]["type"] == "not_found_error"


def test_the_document(http: httpx.Client) -> None:
    assert "/api/version" in http.get("/openapi.json").json()["paths"]
