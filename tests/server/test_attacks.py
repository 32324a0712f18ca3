"""What was done to servers of this kind, tried on ours: each case is one that has worked on another."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.serving import Server, serving

EVIL = "http://evil.example"
METHODS = ("get", "post", "put", "delete", "head")


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a key, a name and a friend."""
    chosen = {
        "WANRUN_API_KEY": "s3cret-k3y",
        "WANRUN_HOSTS": "films.example",
        "WANRUN_ORIGINS": "https://friend.example",
        "WANRUN_MAX_QUEUE": "1",
    }
    with serving(tmp_path_factory.mktemp("locked"), **chosen) as started:
        yield started


def routes(http: httpx.Client) -> Iterator[tuple[str, str]]:
    """Every method and path of the OpenAPI document, and those that it leaves out."""
    for path, operations in http.get("/openapi.json").json()["paths"].items():
        for method in operations:
            if method in METHODS:
                yield method.upper(), path.replace("{", "").replace("}", "")
    yield from (("GET", "/openapi.json"), ("HEAD", "/api/tags"), ("GET", "/nothing"), ("GET", "/"))


def raw(server: Server, data: bytes) -> bytes:
    """What the server says to bytes that no client would send."""
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=30)) as connection:
        answer = b""
        with suppress(ConnectionError):  # it hangs up on what it does not read
            connection.sendall(data)
            with suppress(OSError):  # it has hung up already
                connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(65536):
                answer += chunk
        return answer


def files(folder: Path) -> dict[str, int]:
    """Every file around a server's home, with its size; what changes by itself is left out."""
    return {
        str(path.relative_to(folder)): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and "jobs.sqlite" not in path.name and "schedulers" not in path.parts
    }


def test_dns_rebinding(http: httpx.Client, server: Server) -> None:
    """CVE-2024-28224: a foreign name that points here."""
    asked = list(routes(http))
    assert len(asked) > 20
    for method, path in asked:
        for host in (
            "evil.example",
            f"evil.example:{server.port}",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
        ):
            answer = http.request(method, path, headers={"Host": host})
            assert answer.status_code == 403, (method, path, host)
    for host in ("2130706433", "0x7f000001", "127.1", "localhost@evil.example", "evil.example#", "a b", "["):
        assert http.get("/api/tags", headers={"Host": host}).status_code in (400, 403), host
    for host in ("localhost", "LOCALHOST:1", "app.localhost", "127.0.0.1", "[::1]:80", "192.168.1.2"):
        assert http.get("/api/version", headers={"Host": host}).status_code == 200, host


def test_hosts_that_are_hidden(server: Server) -> None:
    doubled = b"GET /api/tags HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n"
    assert raw(server, doubled).startswith(b"HTTP/1.1 400 ")
    absolute = b"GET http://evil.example/api/tags HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    assert raw(server, absolute).startswith(b"HTTP/1.1 400 ")
    star = b"OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    assert raw(server, star).startswith(b"HTTP/1.1 400 ")
    none = b"GET /api/tags HTTP/1.1\r\n\r\n"
    assert raw(server, none).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("origin", [EVIL, "null", "file://", "https://localhost.evil.example", "", "http://"])
def test_pages_of_other_sites(http: httpx.Client, origin: str) -> None:
    """A form or script of another site; a simple request needs no preflight."""
    for method, path in routes(http):
        assert http.request(method, path, headers={"Origin": origin}).status_code == 403, (method, path)
    form = http.post(
        "/api/generate",
        headers={"Origin": origin, "Content-Type": "text/plain"},
        content='{"model": "wan-toy", "prompt": "x"}',
    )
    assert form.status_code == 403
    preflight = http.options(
        "/api/delete", headers={"Origin": origin, "Access-Control-Request-Method": "DELETE"}
    )
    assert preflight.status_code == 403
    assert "access-control-allow-origin" not in preflight.headers


def test_pages_that_may_ask(http: httpx.Client, server: Server, locked: Server) -> None:
    for origin in (server.url, "http://localhost:3000", "https://127.0.0.1", "http://[::1]:8080"):
        answer = http.get("/api/tags", headers={"Origin": origin})
        assert answer.status_code == 200, origin
        assert answer.headers["access-control-allow-origin"] == origin
        assert "Origin" in answer.headers["vary"]
    preflight = httpx.options(
        f"{locked.url}/api/delete",
        headers={"Origin": "https://friend.example", "Access-Control-Request-Method": "DELETE"},
    )
    assert (preflight.status_code, preflight.content) == (204, b"")
    assert "DELETE" in preflight.headers["access-control-allow-methods"]
    assert "Authorization" in preflight.headers["access-control-allow-headers"]
    key = {"Authorization": "Bearer s3cret-k3y"}
    assert httpx.get(f"{locked.url}/api/tags", headers=key | {"Host": "films.example"}).status_code == 200
    assert http.get("/api/tags").status_code == 200  # curl says no origin


def test_without_the_key(locked: Server) -> None:
    """CVE-2025-63389: every route asks for the key, and no answer depends on how near a guess is."""
    with httpx.Client(base_url=locked.url, headers={"Authorization": "Bearer s3cret-k3y"}) as owner:
        asked = [each for each in routes(owner) if each != ("GET", "/")]
        assert owner.get("/api/tags").status_code == 200
    guesses = ["", "Bearer", "Bearer s3cret-k3", "Bearer s3cret-k3y2", "bearer S3CRET-K3Y"]
    guesses += ["Basic s3cret-k3y", "s3cret-k3y", "Bearer \xff\xfe", "Bearer " + "x" * 10_000]
    with httpx.Client(base_url=locked.url) as stranger:
        for method, path in asked:
            assert stranger.request(method, path).status_code == 401, (method, path)
        for path in ("/page/../api/tags", "//api/tags", "/page/%2e%2e/api/tags", "/api/tags?key=s3cret-k3y"):
            assert stranger.get(path).status_code in (401, 404), path
        for guess in guesses:
            refused = stranger.get("/api/tags", headers={b"Authorization": guess.encode("latin-1")})
            assert refused.status_code == 401, guess
            assert refused.headers["www-authenticate"] == "Bearer"
            assert "s3cret" not in refused.text
    assert "s3cret" not in locked.log.read_text()


DIGESTS = [
    *("..%2f..%2f..%2fetc%2fpasswd", "sha256:..%2f..%2fetc%2fpasswd", "sha256-..%2f..%2fjobs.sqlite"),
    *("sha256:" + "a" * 63, "sha256:" + "a" * 65, "sha256:" + "A" * 64, "sha512:" + "a" * 64, "sha256:"),
    *(
        "a" * 64,
        "sha256:sha256:" + "a" * 57,
        "%00",
        "sha256:" + "a" * 63 + "%00",
        "sha256:" + "a" * 63 + "%0a",
    ),
]


@pytest.mark.parametrize("digest", DIGESTS)
def test_digests_that_are_paths(http: httpx.Client, server: Server, digest: str) -> None:
    """CVE-2024-37032, CVE-2025-44779, CVE-2026-7020: nothing outside the store is read, made or deleted."""
    before = files(server.home.parent)
    for method in ("HEAD", "POST"):
        assert http.request(method, f"/api/blobs/{digest}", content=b"x").status_code in (400, 404, 405)
    created = http.post("/api/create", json={"model": "x", "files": {"vae": digest.replace("%2f", "/")}})
    assert created.status_code == 400
    assert files(server.home.parent) == before


NAMES = [
    *("../../etc/passwd", "..", "/etc/passwd", "a/../b", "%2e%2e/x", "x%00y", "x\0y", "a∕b", "a/b/c/d", "x:"),
    *(
        "x:..",
        ".hidden",
        "-rf",
        "a\\b",
        "C:\\x",
        "\u202ex",
        "x\r\nSet-Cookie: a",
        "x y",
        "é",
        "~root",
        "a" * 500,
    ),
]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_paths(http: httpx.Client, server: Server, name: str) -> None:
    """CVE-2024-39722: no route tells whether a path exists, and none goes there."""
    before = files(server.home.parent)
    for path in ("show", "push", "pull", "create", "generate", "plan", "chat", "delete", "copy"):
        body = {"model": name, "from": "wan-toy", "source": name, "destination": name, "stream": False}
        answer = http.request("DELETE" if path == "delete" else "POST", f"/api/{path}", json=body)
        assert answer.status_code == 400, (path, answer.text)
        assert "set-cookie" not in answer.headers
    assert files(server.home.parent) == before


def test_manifests_that_somebody_planted(http: httpx.Client, server: Server) -> None:
    folder = server.home / "manifests" / "wanrun.local" / "library" / "planted"
    folder.mkdir(parents=True)
    victim = server.home.parent / "victim"
    victim.write_text("mine")
    sound = json.loads((folder.parent / "wan-toy" / "latest").read_text())
    twisted: list[Any] = [
        *("sha256:../../../victim", "sha256:", "", None, 7, "sha256:" + "a" * 63, ["sha256:" + "a" * 64]),
    ]
    for digest in twisted:
        sound["layers"][0]["digest"] = digest
        (folder / "latest").write_text(json.dumps(sound))
        for path in ("show", "push", "generate"):
            answer = http.post(f"/api/{path}", json={"model": "planted"})
            assert answer.status_code >= 400, path
            assert str(server.home) not in answer.text
        assert [each["name"] for each in http.get("/api/tags").json()["models"]] == ["wan-toy:latest"]
        assert http.request("DELETE", "/api/delete", json={"model": "planted"}).status_code == 200
        folder.mkdir(parents=True, exist_ok=True)
        assert victim.read_text() == "mine"
    folder.rmdir()
    victim.unlink()


HOSTS = [
    *(
        "127.0.0.1:1",
        "localhost:1",
        "169.254.169.254",
        "10.0.0.1",
        "192.168.0.1:5000",
        "0.0.0.0:1",
        "2130706433",
    ),
    *("127.1", "0x7f000001"),
]


@pytest.mark.parametrize("host", HOSTS)
def test_registries_of_private_networks(http: httpx.Client, host: str) -> None:
    """SSRF (ollama issue 16236): the server is no way into its own network."""
    answer = http.post("/api/pull", json={"model": f"{host}/a/b", "stream": False})
    assert answer.status_code == 400
    assert "private network" in answer.json()["error"]


def test_other_schemes(http: httpx.Client) -> None:
    for name in ("file:///etc/passwd", "gopher://127.0.0.1/x", "http://127.0.0.1/x", "oci://127.0.0.1/x/y"):
        for path in ("pull", "push"):
            answer = http.post(f"/api/{path}", json={"model": name, "stream": False})
            assert answer.status_code in (400, 404), name
        assert http.post("/api/create", json={"model": "x", "from": name}).status_code == 400


BODIES: list[tuple[bytes, str]] = [
    (b"", "missing request body"),
    (b"  ", "missing request body"),
    (b"{", "Expecting property name"),
    (b"[]", "must be a JSON object"),
    (b'"x"', "must be a JSON object"),
    (b"\xff\xfe{}", "can't decode"),
    (b'{"model": NaN}', "NaN is not a JSON number"),
    (b'{"model": Infinity}', "Infinity is not a JSON number"),
    (b'{"steps": 1e999}', "is too large a number"),
    (b'{"steps": -1e999}', "is too large a number"),
    (b'{"steps": ' + b"9" * 5000 + b"}", "is too large a number"),
    (b'{"a":' * 100_000, "nested 64 deep"),
    (b'{"a":' + b"[" * 1_000_000, "nested 64 deep"),
    (b'{"model": "wan-toy", "prompt": "\\ud800"}', "surrogate"),
    (b'{"model": "wan-toy", "options": ["a"]}', "options: "),
    (b'{"model": ["wan-toy"]}', "model: "),
    (b'{"model": "wan-toy", "stream": "yes"}', "stream: "),
]


@pytest.mark.parametrize(("body", "words"), BODIES, ids=[words for _, words in BODIES])
def test_bodies_that_are_none(http: httpx.Client, body: bytes, words: str) -> None:
    answer = http.post("/api/generate", content=body)
    assert answer.status_code == 400
    assert words in answer.json()["error"]
    assert "Traceback" not in answer.text


def test_bodies_that_are_too_large(http: httpx.Client, server: Server) -> None:
    announced = b"POST /api/generate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999\r\n\r\n"
    assert raw(server, announced).startswith(b"HTTP/1.1 413 ")
    chunks = (b" " * (1 << 20) for _ in range(70))
    assert http.post("/api/generate", content=chunks).status_code == 413
    assert http.post("/api/show", content=b'{"model": "' + b"x" * (5 << 20) + b'"}').status_code == 413
    assert http.get("/api/version").status_code == 200


def test_requests_within_requests(server: Server) -> None:
    head = b"POST /api/show HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    for framing in (
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length : 5\r\n",
    ):
        answer = raw(
            server, head + framing + b"\r\n0\r\n\r\nGET /api/tags HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        )
        assert answer.count(b"HTTP/1.1 ") == 1, framing
        assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 ")), framing


def test_headers_without_end(server: Server) -> None:
    answer = raw(server, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 200_000 + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 4") or answer == b""
    assert raw(server, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "path", ["/debug/pprof", "/debug/vars", "/docs", "/redoc", "/metrics", "/admin", "/.git/HEAD"]
)
def test_what_is_not_there(http: httpx.Client, path: str) -> None:
    assert http.get(path).status_code == 404


def test_nothing_is_told_of_where_things_lie(http: httpx.Client, server: Server) -> None:
    told = [
        http.post("/api/show", json={"model": "wan-toy", "verbose": True}).text,
        http.get("/api/tags").text,
        http.get("/openapi.json").text,
        http.get("/v1/videos").text,
        http.post("/api/create", json={"model": "x", "files": {"vae": "sha256:" + "a" * 64}}).text,
        server.log.read_text(),
    ]
    for text in told:
        assert str(server.home) not in text
        assert "Traceback" not in text
        assert "/work" not in text


def test_who_queues_too_much(locked: Server) -> None:
    """One is made, one waits, and the next is told when to come back."""
    order = {"model": "wan-toy", "prompt": "x", "size": "32x32", "num_frames": 5, "num_inference_steps": 900}
    with httpx.Client(base_url=locked.url, headers={"Authorization": "Bearer s3cret-k3y"}) as client:
        statuses = [client.post("/v1/videos", json=order).status_code for _ in range(3)]
        busy = client.post("/api/generate", json={"model": "wan-toy", "prompt": "x", "stream": False})
        assert (statuses[0], statuses[-1], busy.status_code) == (200, 503, 503)
        assert busy.json() == {"error": "server busy, please try again.  maximum pending requests exceeded"}
        assert int(busy.headers["retry-after"]) > 0
        for video in client.get("/v1/videos").json()["data"]:
            client.delete(f"/v1/videos/{video['id']}")


def test_who_asks_too_often(tmp_path: Path) -> None:
    with serving(tmp_path, WANRUN_MAX_RATE="2") as server, httpx.Client(base_url=server.url) as client:
        statuses = [client.get("/api/version").status_code for _ in range(200)]
        assert statuses[:20] == [200] * 20
        assert 429 in statuses
        limited = next(answer for answer in iter(lambda: client.get("/api/version"), None) if answer.is_error)
        assert limited.headers["retry-after"] == "1"
