"""Says whether a request names this server, and whether the page that sends it may.

A page of another site reaches a server on its visitor's machine in two ways. It sends a request across
origins, which its browser marks with ``Origin``; or it has its own name point to 127.0.0.1 (DNS rebinding,
CVE-2024-28224), and then ``Host`` is that name. An address cannot be made to point elsewhere.
"""

from __future__ import annotations

import ipaddress
import re

_AUTHORITY = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[^\[\]:/@?#\s]*)(?::(?P<port>\d{1,5}))?")
_ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<authority>[^/?#\s]*)")


def names_server(host: str, known: tuple[str, ...]) -> bool:
    """Whether the ``Host`` header is an address, this machine's own name, one of ``known``, or empty.

    Only programs leave it empty; ``*`` in ``known`` stands for every name.
    """
    match = _AUTHORITY.fullmatch(host.lower())
    if match is None:
        return False
    name = match["host"].removesuffix(".")
    own = name in ("", "localhost", *known) or name.endswith(".localhost") or "*" in known
    return own or _address(name) is not None


def may_ask(origin: str, host: str, allowed: tuple[str, ...]) -> bool:
    """Whether a page of ``origin`` may use the server that it calls ``host``.

    It may if it is the server's own, of another server on this machine, or ``allowed`` (``*`` is every one).
    """
    if "*" in allowed or origin in allowed:
        return True
    match = _ORIGIN.fullmatch(origin.lower())
    if match is None or match["scheme"] not in ("http", "https"):
        return False  # also "null", which a sandboxed frame of any page sends
    if match["authority"] == host.lower():
        return True
    authority = _AUTHORITY.fullmatch(match["authority"])
    return authority is not None and _is_here(authority["host"])


def _is_here(name: str) -> bool:
    address = _address(name)
    return name == "localhost" or (address is not None and address.is_loopback)


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return None
