"""Answers a registry's challenge: asks its token server for a token, or gives the user's name and password.

Whom the user's secrets are shown to: the registry itself, and the token server that it names, if that is the
same server or both are spoken to over https. Never whom a redirect leads to, and nobody over plain http but
this machine. (distribution/distribution, docs/spec/auth/token.md and oauth.md)
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import urlencode

import httpx

from wanrun.errors import DownloadError
from wanrun.sources.oci.challenge import Challenge
from wanrun.sources.oci.credentials import Credentials
from wanrun.sources.oci.repository import is_loopback, may_lead, parse_url
from wanrun.sources.remote import origin

_TOKEN = re.compile(r"[\x21-\x7e]{1,65536}")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to a token server: GET, or POST when there is a form."""

    url: httpx.URL
    authorization: str | None = None
    form: bytes | None = None


def answer(
    challenge: Challenge,
    registry: httpx.URL,
    scopes: Iterable[str],
    credentials: Credentials | None,
    ask: Callable[[Asked], bytes],
) -> str | None:
    """The ``Authorization`` header that meets ``challenge``; None when there is nothing to meet it with.

    ``ask`` sends a request to a token server, follows no redirect, and returns the body.
    """
    if challenge.scheme == "basic":
        return credentials.basic if credentials is not None and credentials.username else None
    if challenge.scheme != "bearer":
        return None
    realm = _realm(challenge.parameters.get("realm", ""), registry)
    service = challenge.parameters.get("service", "")
    wanted = sorted({*challenge.parameters.get("scope", "").split(), *scopes})
    trusted = origin(realm) == origin(registry) or registry.scheme == realm.scheme == "https"
    return "Bearer " + _token(ask(_request(realm, service, wanted, credentials if trusted else None)))


def _realm(text: str, registry: httpx.URL) -> httpx.URL:
    realm = parse_url(text)
    local = registry.scheme == "http"  # both ends on this machine
    safe = realm is not None and (
        origin(realm) == origin(registry) or may_lead(registry, realm) or (local and is_loopback(realm))
    )
    if realm is None or not safe:
        raise DownloadError(
            f"{registry.host} names a token server that is not spoken to over https: {text!r:.200}"
        )
    return realm


def _request(realm: httpx.URL, service: str, scopes: list[str], credentials: Credentials | None) -> Asked:
    fields = {"service": service} if service else {}
    if credentials is not None and credentials.identity_token:
        form = fields | {
            "grant_type": "refresh_token",
            "client_id": "wanrun",
            "scope": " ".join(scopes),
            "refresh_token": credentials.identity_token,
        }
        return Asked(realm, form=urlencode(form).encode())
    url = realm.copy_merge_params(fields)
    for scope in scopes:
        url = url.copy_add_param("scope", scope)
    return Asked(url, credentials.basic if credentials is not None else None)


def _token(body: bytes) -> str:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict):
        for key in ("token", "access_token"):
            token = found.get(key)
            if isinstance(token, str) and _TOKEN.fullmatch(token):
                return token
    raise DownloadError("the token server gave no token")  # its answer could hold a part of one
