"""Who is shown the user's secrets, and how tokens are asked for."""

from __future__ import annotations

import base64
import json
import urllib.request
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sources.oci.servers import Answering, Exchange, Fake, fake, serving
from wanrun.errors import DownloadError, WanrunError
from wanrun.sources.oci import pull, push
from wanrun.sources.oci.authorization import Asked, answer
from wanrun.sources.oci.challenge import Challenge, parse_challenges
from wanrun.sources.oci.credentials import Credentials
from wanrun.store.creation import quiet
from wanrun.store.names import parse_name
from wanrun.store.store import Store

ANN = Credentials("ann", "s3cret")
BASIC = "Basic " + base64.b64encode(b"ann:s3cret").decode()
HTTPS, LOOPBACK = httpx.URL("https://ghcr.io"), httpx.URL("http://127.0.0.1:5000")


def asked_for(realm: str, registry: httpx.URL, credentials: Credentials | None = ANN) -> Asked:
    """What a token server would be sent."""
    seen: list[Asked] = []

    def ask(asked: Asked) -> bytes:
        seen.append(asked)
        return b'{"token": "t"}'

    challenge = Challenge("bearer", {"realm": realm, "service": "s", "scope": "repository:a/b:pull"})
    assert answer(challenge, registry, ["repository:a/b:pull"], credentials, ask) == "Bearer t"
    (one,) = seen
    return one


@pytest.mark.parametrize(
    ("realm", "registry", "shown"),
    [
        ("https://ghcr.io/token", HTTPS, True),
        ("https://auth.docker.io/token", HTTPS, True),
        ("http://127.0.0.1:5000/token", LOOPBACK, True),
        ("http://127.0.0.1:5001/token", LOOPBACK, False),
        ("http://localhost:5000/token", LOOPBACK, False),
        ("https://evil.example/token", LOOPBACK, False),
    ],
)
def test_who_sees_the_password(realm: str, registry: httpx.URL, shown: bool) -> None:
    asked = asked_for(realm, registry)
    assert asked.authorization == (BASIC if shown else None)
    assert parse_qs(asked.url.query.decode()) == {"service": ["s"], "scope": ["repository:a/b:pull"]}
    identity = asked_for(realm, registry, Credentials("", identity_token="i"))
    assert (identity.form is not None) == shown
    assert identity.authorization is None
    if identity.form is not None:
        form = parse_qs(identity.form.decode())
        assert (form["refresh_token"], form["grant_type"]) == (["i"], ["refresh_token"])
        assert b"=i" not in identity.url.query


@pytest.mark.parametrize(
    "realm",
    [
        "http://auth.example/token",
        "https://10.0.0.1/token",
        "https://169.254.169.254/token",
        "https://localhost/token",
        "https://metadata/token",
        "http://127.0.0.1:5000/token",
        "https://user@auth.example/token",
        "ftp://auth.example",
        "//auth.example",
        "/token",
        "https://",
        "https://a:99999999/",
        "http://[",
        "",
    ],
)
def test_token_servers_that_are_not_asked(realm: str) -> None:
    challenge = Challenge("bearer", {"realm": realm})
    with pytest.raises(DownloadError, match="token server"):
        answer(challenge, HTTPS, [], ANN, lambda asked: pytest.fail("asked"))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b'{"token": 1}',
        b'{"token": ""}',
        b'{"token": "a\\r\\nX: y"}',
        b"[" * 60000,
        b'{"token": "\\u00e9"}',
        b"\xff",
        b'{"token": "' + b"x" * 70000 + b'"}',
    ],
)
def test_tokens_that_are_none(body: bytes) -> None:
    challenge = Challenge("bearer", {"realm": "https://ghcr.io/token"})
    with pytest.raises(DownloadError, match="gave no token"):
        answer(challenge, HTTPS, [], ANN, lambda asked: body)


def test_schemes() -> None:
    def never(asked: Asked) -> bytes:
        pytest.fail("asked")

    assert answer(Challenge("basic", {}), HTTPS, [], ANN, never) == BASIC
    assert answer(Challenge("basic", {}), HTTPS, [], None, never) is None
    assert answer(Challenge("basic", {}), HTTPS, [], Credentials("", identity_token="i"), never) is None
    assert answer(Challenge("negotiate", {}), HTTPS, [], ANN, never) is None
    assert "s3cret" not in repr(ANN)
    assert "i9" not in repr(Credentials("", identity_token="i9"))


def test_challenges_against_urllib() -> None:
    """The standard library's parser of the same grammar, where it reads it."""
    header = 'Bearer realm="https://a.b/t?x=1,2",service=reg, scope="repository:a/b:pull,push"'
    (challenge,) = parse_challenges(header)
    assert challenge.scheme == "bearer"
    assert challenge.parameters == urllib.request.parse_keqv_list(
        urllib.request.parse_http_list(header.removeprefix("Bearer "))
    )
    two = parse_challenges(r'Basic realm="a \"b\" c", charset="UTF-8", BEARER Realm="r"')
    assert two == [
        Challenge("basic", {"realm": 'a "b" c', "charset": "UTF-8"}),
        Challenge("bearer", {"realm": "r"}),
    ]
    assert parse_challenges("") == []


@given(st.text())
def test_any_header_is_read(text: str) -> None:
    for challenge in parse_challenges(text):
        assert challenge.scheme == challenge.scheme.lower()


class TokenServer:
    """A registry that wants tokens, each good for ``uses`` requests; the password is ann's."""

    def __init__(self, inner: Answering, uses: int = 1_000_000) -> None:
        self.inner, self.uses, self.made, self.left = inner, uses, 0, 0
        self.asked: list[Exchange] = []
        self.realm = ""

    def __call__(self, exchange: Exchange) -> None:
        if exchange.path.startswith("/token"):
            self.asked.append(exchange)
            if exchange.headers.get("authorization") != BASIC:
                exchange.reply(401, {})
                return
            self.made, self.left = self.made + 1, self.uses
            exchange.reply(200, {}, json.dumps({"access_token": f"token-{self.made}"}).encode())
        elif exchange.headers.get("authorization") != f"Bearer token-{self.made}" or not self.left:
            wanted = f'Bearer realm="{self.realm}",service="tests",scope="repository:ann/wan:pull"'
            exchange.reply(401, {"WWW-Authenticate": wanted})
        else:
            self.left -= 1
            self.inner(exchange)


def logged_in(config: Path, server: Fake) -> None:
    config.write_text(json.dumps({"auths": {server.host: {"auth": BASIC.removeprefix("Basic ")}}}))


def test_tokens(his: Store, shared: tuple[bytes, dict[str, bytes]], docker_config: Path) -> None:
    tokens = TokenServer(serving(*shared))
    with fake(tokens) as server:
        tokens.realm = f"http://{server.host}/token"
        name = parse_name(f"{server.host}/ann/wan:a")
        with pytest.raises(DownloadError, match=r"gives no token, status 401: .*docker login"):
            pull(his, name, quiet)
        logged_in(docker_config, server)
        pull(his, name, quiet)
    assert tokens.made == 1
    query = parse_qs(urlsplit(tokens.asked[-1].path).query)
    assert query == {"service": ["tests"], "scope": ["repository:ann/wan:pull"]}
    assert [str(entry.name) for entry in his.list()] == [str(name)]


def test_a_token_that_runs_out(
    his: Store, hers: Store, shared: tuple[bytes, dict[str, bytes]], docker_config: Path
) -> None:
    """In the middle of everything: each is good for three requests alone."""
    tokens = TokenServer(serving(*shared), uses=3)
    with fake(tokens) as server:
        tokens.realm = f"http://{server.host}/token"
        logged_in(docker_config, server)
        pull(his, parse_name(f"{server.host}/ann/wan:a"), quiet)
    assert tokens.made > len(shared[1]) // 2
    assert [entry.digest for entry in his.list()] == [hers.manifest("wan").digest]


def test_tokens_that_never_let_a_blob_through(
    his: Store, shared: tuple[bytes, dict[str, bytes]], docker_config: Path
) -> None:
    """Each is good for one request, and looking whether the blob is there is one."""
    tokens = TokenServer(serving(*shared), uses=1)
    with fake(tokens) as server:
        tokens.realm = f"http://{server.host}/token"
        logged_in(docker_config, server)
        with pytest.raises(DownloadError):
            pull(his, parse_name(f"{server.host}/ann/wan:a"), quiet)
    assert len(tokens.asked) < 10


def test_a_realm_on_another_host(
    his: Store, shared: tuple[bytes, dict[str, bytes]], docker_config: Path
) -> None:
    """Another port of this machine is another host: it is asked, and shown nothing."""
    tokens = TokenServer(serving(*shared))
    with fake(lambda one: one.reply(200, {}, b'{"token": "stolen"}')) as thief, fake(tokens) as server:
        tokens.realm = f"http://{thief.host}/token"
        logged_in(docker_config, server)
        with pytest.raises(DownloadError, match="docker login"):
            pull(his, parse_name(f"{server.host}/ann/wan:a"), quiet)
    assert len(thief.seen) == 1
    assert "authorization" not in thief.seen[0].headers
    assert "s3cret" not in repr(thief.seen)
    assert BASIC not in str([exchange.headers for exchange in (*thief.seen, *server.seen)])


def test_a_token_server_that_redirects(his: Store, docker_config: Path) -> None:
    def redirect(exchange: Exchange) -> None:
        if exchange.path.startswith("/token"):
            exchange.reply(307, {"Location": f"http://{thief.host}/"})
        else:
            exchange.reply(401, {"WWW-Authenticate": f'Bearer realm="http://{server.host}/token"'})

    with fake(lambda one: one.reply(200, {}, b'{"token": "t"}')) as thief, fake(redirect) as server:
        logged_in(docker_config, server)
        with pytest.raises(DownloadError, match="gives no token, status 307"):
            pull(his, parse_name(f"{server.host}/ann/wan:a"), quiet)
    assert thief.seen == []


def test_uploads_to_another_host_carry_no_token(hers: Store, docker_config: Path) -> None:
    """An upload's URL on another port of this machine is not followed at all."""

    def answer(exchange: Exchange) -> None:
        if exchange.headers.get("authorization") != BASIC:
            exchange.reply(401, {"WWW-Authenticate": "Basic"})
        elif exchange.method == "POST":
            exchange.reply(202, {"Location": f"http://{thief.host}/upload"})
        else:
            exchange.reply(404)

    with fake(lambda one: one.reply(201)) as thief, fake(answer) as server:
        logged_in(docker_config, server)
        name = parse_name(f"{server.host}/ann/wan:a")
        hers.copy("wan", name)
        with pytest.raises(WanrunError, match="sends us to"):
            push(hers, name, quiet)
    assert thief.seen == []
