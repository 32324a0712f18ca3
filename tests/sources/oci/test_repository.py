"""Names and references as places on a registry."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanrun.errors import InvalidRequest
from wanrun.sources.oci.repository import Repository, may_lead, of_name, parse_reference
from wanrun.store.names import parse_name

DIGEST = "sha256:" + "0" * 64


def test_urls() -> None:
    repository = of_name(parse_name("ghcr.io/ann/wan2.2:q4"))
    assert repository == Repository("ghcr.io", "ann/wan2.2")
    assert str(repository.manifest("q4")) == "https://ghcr.io/v2/ann/wan2.2/manifests/q4"
    assert str(repository.blob(DIGEST)) == f"https://ghcr.io/v2/ann/wan2.2/blobs/{DIGEST}"
    assert str(repository.uploads()) == "https://ghcr.io/v2/ann/wan2.2/blobs/uploads/"
    assert str(Repository("docker.io", "a/b").base) == "https://registry-1.docker.io"


@pytest.mark.parametrize(
    ("host", "scheme"),
    [
        ("localhost", "http"),
        ("localhost:5000", "http"),
        ("127.0.0.1:5000", "http"),
        ("127.9.9.9", "http"),
        ("[::1]:5000", "http"),
        ("192.168.0.7:5000", "https"),
        ("0.0.0.0:5000", "https"),
        ("localhost.example.org", "https"),
        ("127.0.0.1.example.org", "https"),
        ("nas:5000", "https"),
    ],
)
def test_plain_http_stays_on_this_machine(host: str, scheme: str) -> None:
    assert Repository(host, "a/b").base.scheme == scheme


@pytest.mark.parametrize(
    ("reference", "host", "path", "tag"),
    [
        ("ghcr.io/ann/wan", "ghcr.io", "ann/wan", "latest"),
        ("oci://GHCR.io/ann/wan:q4_K", "ghcr.io", "ann/wan", "q4_K"),
        ("OCI://localhost:5000/wan:a", "localhost:5000", "wan", "a"),
        (f"a.io/b/c/d@{DIGEST}", "a.io", "b/c/d", DIGEST),
        (f"a.io/b:tag@{DIGEST}", "a.io", "b", DIGEST),
        ("[::1]:5000/a/b:c", "[::1]:5000", "a/b", "c"),
    ],
)
def test_references(reference: str, host: str, path: str, tag: str) -> None:
    assert parse_reference(reference) == (Repository(host, path), tag)


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "wan",
        "oci://",
        "oci://ghcr.io",
        "ghcr.io/",
        "ghcr.io/A",
        "ghcr.io/a/../b",
        "ghcr.io/a:",
        "/a/b",
        "ghcr.io/a:b:c",
        "ghcr.io/a:../x",
        "ghcr.io/a@sha256:1",
        "ghcr.io/a@sha512:" + "0" * 128,
        "a b/c",
        "user@ghcr.io/a",
        "ghcr.io:99999/a",
        "ghcr.io:0/a",
        "ghcr.io/a%2fb",
        "ghcr.io/a?b",
        "ghcr.io\\x/a",
        "ghcr.io/" + "a" * 256,
        "ghcr.io/a\n",
        "-x.io/a",
        "a..b/c",
        "https://ghcr.io/a",
        "[::1/a",
        "ghcr.io/a#b",
    ],
)
def test_what_is_no_reference(reference: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_reference(reference)


@given(st.text() | st.from_regex(r"(oci://)?[a-z.:\[\]0-9]+/[a-z._/-]+(:[\w.]*)?(@.*)?", fullmatch=True))
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    """Whatever it is, it cannot reach into another part of the URL."""
    try:
        repository, tag = parse_reference(text)
    except InvalidRequest:
        return
    url = repository.manifest(tag)
    assert url.path == f"/v2/{repository.path}/manifests/{tag}"
    assert (url.query, url.fragment, url.userinfo) == (b"", "", b"")


@pytest.mark.parametrize(
    ("registry", "url", "may"),
    [
        ("https://ghcr.io", "https://storage.example.org/x", True),
        ("https://ghcr.io", "http://storage.example.org/x", False),
        ("https://ghcr.io", "https://10.1.2.3/x", False),
        ("https://ghcr.io", "https://[fd00::1]/x", False),
        ("https://ghcr.io", "https://0x7f000001/x", False),
        ("https://ghcr.io", "https://nas/x", False),
        ("https://ghcr.io", "https://printer.local/x", False),
        ("https://10.1.2.3", "https://10.1.2.4/x", True),
        ("https://nas:5000", "https://minio.internal/x", True),
        ("https://nas:5000", "https://127.0.0.1/x", False),
        ("https://nas:5000", "http://10.1.2.4/x", False),
        ("http://127.0.0.1:5000", "https://10.1.2.3/x", False),
        ("http://127.0.0.1:5000", "https://127.0.0.1:6000/x", False),
        ("http://127.0.0.1:5000", "https://storage.example.org/x", True),
    ],
)
def test_where_a_registry_may_lead(registry: str, url: str, may: bool) -> None:
    assert may_lead(httpx.URL(registry), httpx.URL(url)) == may


def test_names_that_no_registry_allows() -> None:
    for name in ("ghcr.io/_why/wan", "ghcr.io/a/b..c", "ghcr.io/a/b-", "ghcr.io/a-/b", "a:b:c/d/e"):
        with pytest.raises(InvalidRequest):
            of_name(parse_name(name))
