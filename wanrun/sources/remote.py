"""A file on another machine, and where a request for it may go.

Redirects are followed one by one: never from https to http, never from the public network into a private one,
and over http only where the digest is known or the host is this machine.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

import httpx

from wanrun.errors import DownloadError, InvalidRequest
from wanrun.sources.outside import is_inside
from wanrun.store.digest import Digest


class Refused(DownloadError):
    """The server said no in a way that asking again does not change; ``status`` is what it said."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Remote:
    """A file on another machine and what is known of it beforehand.

    ``size`` is in bytes. ``headers`` (a token, say) are sent to the url's own scheme, host and port only.
    ``title`` is what people know the file as.
    """

    url: str = field(repr=False)
    size: int | None = None
    digest: Digest | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    title: str = ""

    @property
    def label(self) -> str:
        """The title, or the last part of the path, fit for a terminal."""
        path = self.url.partition("?")[0].partition("#")[0].rstrip("/")
        text = self.title or unquote(path.rpartition("/")[2]) or "file"
        return "".join(letter if letter.isprintable() else "?" for letter in text[:200])


def check(remote: Remote) -> None:
    """Raises InvalidRequest for a url or header that can never be sent."""
    try:
        url = httpx.URL(remote.url)
    except (httpx.InvalidURL, UnicodeError) as error:
        raise InvalidRequest(f"{remote.label}: not a URL: {error}"[:300]) from error
    if reason := _unsafe(url, remote):
        raise InvalidRequest(f"{remote.label}: {reason}")
    if not all(text.isascii() and text.isprintable() for pair in remote.headers.items() for text in pair):
        raise InvalidRequest(f"{remote.label}: the token or login holds characters that cannot be sent")


def redirected(url: httpx.URL, location: str, remote: Remote) -> httpx.URL:
    """Where ``url`` redirects to; DownloadError when nothing should follow it there."""
    refusal = f"cannot download {remote.label}: {url.host} redirects "
    try:
        target = url.join(location)
    except (httpx.InvalidURL, ValueError) as error:
        raise DownloadError(f"{refusal}to something that is no URL") from error
    if not location or not target.host:
        raise DownloadError(f"{refusal}to nowhere")
    if url.scheme == "https" and target.scheme != "https":
        raise DownloadError(f"{refusal}from https to {target.scheme}, which is not safe")
    if reason := _unsafe(target, remote):
        raise DownloadError(f"{refusal}to where it must not: {reason}")
    if target.host != url.host and is_inside(target.host) and not is_inside(url.host):
        raise DownloadError(f"{refusal}into a private network, to {target.host}")
    return target


def _unsafe(url: httpx.URL, remote: Remote) -> str:
    """Why ``url`` is not asked, empty when it may be."""
    if (url.port or 1) > 65_535:
        return f"not a URL: there is no port {url.port}"
    if url.scheme not in ("http", "https") or not url.host:
        return f"only https:// can be downloaded, not {url.scheme or 'a path'}:"[:100]
    if url.scheme == "http" and remote.digest is None and not _loopback(url.host):
        return f"http://{url.host} could be changed on the way: use https:// or give its #sha256=…"
    return ""


def origin(url: httpx.URL) -> tuple[str, str, int]:
    """What must be the same for a login to be sent: scheme, host and port."""
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}[url.scheme]


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
