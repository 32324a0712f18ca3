"""Finds who the user is on a registry: in Docker's ``config.json`` and the credential helpers that it names.

The format is Docker's (docker/cli, cli/config/configfile; docker/docker-credential-helpers), so that
``docker login`` and ``podman login --authfile`` are enough. Secrets are never shown.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wanrun.errors import InvalidRequest

_MAX_BYTES = 1 << 20
_HELPER_S = 60
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_HUB = "https://index.docker.io/v1/"
_HUB_HOSTS = ("docker.io", "index.docker.io", "registry-1.docker.io")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user's name and password, or an identity token, with which tokens are asked for."""

    username: str
    password: str = field(repr=False, default="")
    identity_token: str = field(repr=False, default="")

    @property
    def basic(self) -> str:
        """The value of an ``Authorization`` header (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


def find_credentials(host: str) -> Credentials | None:
    """What Docker's configuration holds for exactly ``host``, port included, or None."""
    folder = os.environ.get("DOCKER_CONFIG")
    path = (Path(folder) if folder else Path.home() / ".docker") / "config.json"
    config = _read(path)
    helpers = _mapping(config.get("credHelpers"))
    helper = helpers.get(host) or config.get("credsStore")
    if helper:
        found = _ask_helper(helper, host, path)
        if found is not None:
            return found
    for key, entry in _mapping(config.get("auths")).items():
        if _same_host(key, host):
            return _of_entry(_mapping(entry), host, path)
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file():
            return {}
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        return _mapping(json.loads(data[:_MAX_BYTES]))
    except (OSError, ValueError, RecursionError):  # which could quote a secret
        raise InvalidRequest(
            f"{path} cannot be read as Docker's configuration: repair or remove it"
        ) from None


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _same_host(key: str, host: str) -> bool:
    own = re.sub(r"\A(?i:https?)://", "", key).partition("/")[0].lower()
    return own == host or (own in _HUB_HOSTS and host in _HUB_HOSTS)


def _of_entry(entry: dict[str, Any], host: str, path: Path) -> Credentials | None:
    username, password, token = (
        value if isinstance(value := entry.get(key), str) else ""
        for key in ("username", "password", "identitytoken")
    )
    packed = entry.get("auth")
    if isinstance(packed, str) and packed:
        try:
            username, _, password = base64.b64decode(packed, validate=True).decode().partition(":")
        except ValueError:
            raise InvalidRequest(f"{path}: the 'auth' of {host} is damaged: log in again") from None
        password = password.rstrip("\0")
    return _credentials(username, password, token)


def _ask_helper(helper: object, host: str, path: Path) -> Credentials | None:
    if not isinstance(helper, str) or not _HELPER.fullmatch(helper):
        raise InvalidRequest(f"{path} names a credential helper that can be none: {helper!r:.100}")
    program = shutil.which(f"docker-credential-{helper}")
    if program is None:
        raise InvalidRequest(f"docker-credential-{helper} is not installed, and {path} says to ask it")
    server = _HUB if host in _HUB_HOSTS else host
    try:
        done = subprocess.run([program, "get"], input=server.encode(), capture_output=True, timeout=_HELPER_S)
        if done.returncode:
            if b"not found" in done.stdout + done.stderr:
                return None
            raise InvalidRequest(
                f"docker-credential-{helper} failed for {host}: exit status {done.returncode}"
            )
        answer = _mapping(json.loads(done.stdout[:_MAX_BYTES]))
    except (OSError, ValueError, RecursionError, subprocess.TimeoutExpired):
        raise InvalidRequest(f"docker-credential-{helper} gave no usable answer for {host}") from None
    username, secret = answer.get("Username"), answer.get("Secret")
    if not isinstance(username, str) or not isinstance(secret, str):
        return None
    return _credentials("", "", secret) if username == "<token>" else _credentials(username, secret, "")


def _credentials(username: str, password: str, token: str) -> Credentials | None:
    return Credentials(username, password, token) if token or (username and password) else None
