"""A server does not go into private networks, whatever name they hide behind."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.sources.oci import servers as registries
from tests.sources.servers import serving
from wanrun.errors import InvalidRequest
from wanrun.sources import oci, outside
from wanrun.sources.download import Remote, download
from wanrun.store.creation import quiet
from wanrun.store.digest import Digest
from wanrun.store.names import parse_name
from wanrun.store.store import Store


@pytest.fixture(autouse=True)
def a_servers_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("WANRUN_PRIVATE", "off")
    yield


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "[::1]", "localhost", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254"),
        *("[fe80::1]", "[fd00::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433", "127.1", "0x7f000001"),
    ],
)
def test_addresses_of_private_networks(host: str) -> None:
    with pytest.raises(InvalidRequest, match="is in a private network, where this server does not go"):
        outside.watched(httpx.URL(f"http://{host}/v2/"))


def test_nothing_is_asked(tmp_path: Path) -> None:
    data = b"secret"
    with serving({"/file": data}) as site, pytest.raises(InvalidRequest, match="private network"):
        download(Remote(f"{site.url}/file", digest=Digest.of(data)), tmp_path / "blobs", quiet)
    assert site.requests == []
    with registries.fake(lambda exchange: exchange.reply(200)) as registry:
        name = parse_name(f"{registry.host}/a/b")
        with pytest.raises(InvalidRequest, match="private network"):
            oci.pull(Store(tmp_path), name, quiet)
        assert registry.asked("GET") == []


def test_a_name_that_means_another_address_a_moment_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: public when it is looked up first, this machine when it is connected to."""
    real, asked = socket.getaddrinfo, 0

    def rebind(host: Any, *rest: Any, **more: Any) -> Any:
        nonlocal asked
        if host not in ("rebind.example", b"rebind.example"):
            return real(host, *rest, **more)
        asked += 1
        return real("1.1.1.1" if asked == 1 else "127.0.0.1", *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", rebind)
    with serving({"/": b"secret"}) as site:
        url = httpx.URL(f"http://rebind.example:{httpx.URL(site.url).port}/")
        with httpx.Client(trust_env=False) as client, pytest.raises(InvalidRequest, match="private network"):
            client.get(url, extensions={"trace": outside.watched(url)})
    assert asked >= 2
    assert site.requests == []


def test_the_command_line_goes_where_its_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for value in ("auto", "on"):
        monkeypatch.setenv("WANRUN_PRIVATE", value)
        with serving({"/file": b"data"}) as site:
            download(Remote(f"{site.url}/file"), tmp_path / value, quiet)
    monkeypatch.setenv("WANRUN_PRIVATE", "perhaps")
    with pytest.raises(InvalidRequest, match="must be on or off"):
        outside.watched(httpx.URL("http://127.0.0.1/"))
