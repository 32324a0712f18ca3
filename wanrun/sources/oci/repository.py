"""Where bundles lie on OCI registries: names and references as hosts, repositories and URLs.

A registry is spoken to over https; over plain http only when it is on this machine, where nobody listens in.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

import httpx

from wanrun.errors import InvalidRequest
from wanrun.store.names import DEFAULT_HOST, Name

_HOST = re.compile(r"([a-z0-9_]([a-z0-9_-]*[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(:[0-9]{1,5})?")
_IPV6_HOST = re.compile(r"\[[0-9a-f:.]{2,45}\](:[0-9]{1,5})?")
# opencontainers/distribution-spec, spec.md, "Pulling manifests".
_COMPONENT = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(/{_COMPONENT})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_REFERENCE = re.compile(r"(?P<host>[^/@]+)/(?P<path>[^:@]+)(:(?P<tag>[^@]+))?(@(?P<digest>.+))?", re.DOTALL)
# Names of this machine and its network, and addresses in old notations, such as 127.1 and 0x7f000001.
_PRIVATE = re.compile(r"(^|\.)(localhost|local|internal|0x[0-9a-f]*|[0-9]+)\.?$")
_MAX_URL = 8192
#: Docker Hub answers to one name and serves from another (docker/cli, registry configuration).
_SERVED_FROM = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository of a registry; every part is checked, so a URL can be built from them."""

    host: str
    path: str

    def __post_init__(self) -> None:
        port = self.host.rpartition(":")[2] if not self.host.endswith("]") and ":" in self.host else "443"
        if not (_HOST.fullmatch(self.host) or _IPV6_HOST.fullmatch(self.host)) or not 0 < int(port) < 65536:
            raise InvalidRequest(f"{self.host!r:.100} is not the host of a registry, such as ghcr.io")
        if not _PATH.fullmatch(self.path) or len(self.path) > 255:
            raise InvalidRequest(
                f"{self.path!r:.100} is no repository's name: registries allow lower-case letters and "
                "digits, with single '.', '_' or '-' between them; 'wanrun cp' gives it another name"
            )

    def __str__(self) -> str:
        return f"{self.host}/{self.path}"

    @property
    def base(self) -> httpx.URL:
        """Scheme and host of the registry."""
        host = _SERVED_FROM.get(self.host, self.host)
        plain = httpx.URL(f"http://{host}")
        return plain if is_loopback(plain) else httpx.URL(f"https://{host}")

    def manifest(self, reference: str) -> httpx.URL:
        """URL of the manifest with that tag or digest."""
        if not _TAG.fullmatch(reference) and not _DIGEST.fullmatch(reference):
            raise InvalidRequest(f"{reference!r:.100} is neither a tag nor a digest")
        return self.base.join(f"/v2/{self.path}/manifests/{reference}")

    def blob(self, digest: object) -> httpx.URL:
        """URL of a blob; ``digest`` is written with its ``str()``."""
        return self.base.join(f"/v2/{self.path}/blobs/{digest}")

    def uploads(self) -> httpx.URL:
        """URL where an upload begins."""
        return self.base.join(f"/v2/{self.path}/blobs/uploads/")


def of_name(name: Name) -> Repository:
    """The repository that holds the bundle ``name``; its tag is the manifest's."""
    if name.host == DEFAULT_HOST:
        raise InvalidRequest(
            f"{name} has no registry: a name to share is HOST/NAMESPACE/MODEL[:TAG], such as "
            f"ghcr.io/me/{name.model}:{name.tag}; 'wanrun cp' gives a model another name"
        )
    return Repository(name.host, f"{name.namespace}/{name.model}")


def parse_reference(reference: str) -> tuple[Repository, str]:
    """The repository and the tag or digest of ``[oci://]host/path[:tag][@digest]``; the digest decides."""
    match = _REFERENCE.fullmatch(re.sub(r"\A(?i:oci)://", "", reference))
    if match is None or not (match["tag"] is None or _TAG.fullmatch(match["tag"])):
        raise InvalidRequest(
            f"{reference!r:.200} is no reference to a registry: write oci://HOST/REPOSITORY:TAG"
        )
    if match["digest"] is not None and not _DIGEST.fullmatch(match["digest"]):
        raise InvalidRequest(f"{reference!r:.200}: not a sha256 digest: {match['digest']!r:.100}")
    return Repository(match["host"].lower(), match["path"]), match["digest"] or match["tag"] or "latest"


def parse_url(text: str, base: httpx.URL | None = None) -> httpx.URL | None:
    """The http or https URL that a server wrote, relative to ``base``; None when it cannot be asked."""
    try:
        url = httpx.URL(text[:_MAX_URL]) if base is None else base.join(text[:_MAX_URL])
    except (httpx.InvalidURL, ValueError):
        return None
    usable = url.scheme in ("http", "https") and url.host and not url.userinfo and (url.port or 1) < 65536
    return url if usable else None


def is_loopback(url: httpx.URL) -> bool:
    """Whether ``url`` is on this machine by its name; no name is looked up."""
    if url.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(url.host).is_loopback
    except ValueError:
        return False


def may_lead(registry: httpx.URL, url: httpx.URL) -> bool:
    """Whether ``registry`` may send us to ``url`` on another host: by https, and not into our own network.

    A registry of that network may, for it is there already; nobody may to another port of this machine.
    """
    inside = _is_private(registry) and not is_loopback(registry)
    return url.scheme == "https" and (not _is_private(url) or (inside and not is_loopback(url)))


def _is_private(url: httpx.URL) -> bool:
    try:
        return not ipaddress.ip_address(url.host).is_global
    except ValueError:
        return bool(_PRIVATE.search(url.host)) or "." not in url.host
