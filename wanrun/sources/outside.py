"""Keeps requests out of private networks, for a server that others tell where to go.

A name is looked up before it is asked, and the address that was connected to is looked at before a byte is
sent: a name may mean another address by then.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from wanrun import settings
from wanrun.errors import InvalidRequest

#: What httpcore calls with what it does (its "trace" extension).
Trace = Callable[[str, Mapping[str, Any]], None]


def watched(url: httpx.URL) -> Trace:
    """What watches a request to ``url``; raises InvalidRequest, as watching does, where it must not go."""
    if settings.private():
        return _anywhere
    if is_inside(url.host):
        raise _refusal(url)
    direct = False

    def trace(event: str, details: Mapping[str, Any]) -> None:
        nonlocal direct
        if event == "connection.connect_tcp.started":
            direct = details["host"] == url.raw_host.decode()  # and not a proxy, which its owner has chosen
        elif event == "connection.connect_tcp.complete" and direct:
            stream = details["return_value"]
            if _is_private(str(stream.get_extra_info("server_addr")[0])):
                stream.close()
                raise _refusal(url)

    return trace


def is_inside(host: str) -> bool:
    """Whether ``host`` is, or means, an address that the public network does not reach."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        return any(_is_private(str(entry[4][0])) for entry in found)
    except (OSError, ValueError):
        return False  # unknown here; a proxy may know it


def _is_private(address: str) -> bool:
    return not ipaddress.ip_address(address.partition("%")[0]).is_global


def _anywhere(event: str, details: Mapping[str, Any]) -> None:
    """Watches nothing."""


def _refusal(url: httpx.URL) -> InvalidRequest:
    return InvalidRequest(
        f"{url.host} is in a private network, where this server does not go: WANRUN_PRIVATE=on lets it"
    )
