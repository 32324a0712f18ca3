"""A Hub on 127.0.0.1, with the endpoints and headers that huggingface_hub uses.

Large files are kept on another host, to which /resolve/ redirects, as on the real one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.sources.servers import Handler, Site, serving


@dataclass(slots=True)
class Repository:
    """A model repository: its files by path at each commit, and the branches and tags that name commits."""

    commits: dict[str, dict[str, bytes]]
    names: dict[str, str]
    private: bool = False
    gated: bool = False


@dataclass(slots=True)
class Hub:
    """Two servers: the Hub itself, and the store of large files, that knows no token."""

    site: Site
    storage: Site
    repositories: dict[str, Repository] = field(default_factory=dict)
    token: str = "hf_right"
    #: Files of at least so many bytes are large.
    large: int = 100

    def add(self, repo: str, files: dict[str, bytes], **access: bool) -> str:
        """Commits ``files`` to the main branch of a repository; returns the commit."""
        found = self.repositories.setdefault(repo, Repository({}, {}, **access))
        commit = hashlib.sha1(f"{repo}{len(found.commits)}".encode()).hexdigest()
        found.commits[commit] = files
        found.names["main"] = commit
        self.storage.files |= {f"/{sha256(data)}": data for data in files.values()}
        return commit

    def route(self, handler: Handler) -> bool:
        """Answers what the Hub answers."""
        url = urlsplit(handler.path)
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        if parts[:2] == ["api", "models"] and len(parts) >= 4:
            self._api(handler, "/".join(parts[2:4]), parts[4:], parse_qs(url.query))
        elif len(parts) >= 5 and parts[2] == "resolve":
            self._resolve(handler, "/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            return False
        return True

    def _found(self, handler: Handler, repo: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit and its files; None when the answer was no."""
        found = self.repositories.get(repo)
        allowed = handler.headers.get("Authorization") == f"Bearer {self.token}"
        if found is None or (found.private and not allowed):
            handler.reply(401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
            return None
        commit = found.names.get(revision, revision)
        if commit not in found.commits:
            handler.reply(404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"})
            return None
        return commit, found.commits[commit]

    def _api(self, handler: Handler, repo: str, rest: list[str], query: dict[str, list[str]]) -> None:
        revision = "/".join(rest[1:2]) or "main"
        found = self._found(handler, repo, revision)
        if found is None:
            return
        commit, files = found
        answer: Any
        if rest[:1] == ["tree"]:
            answer = [{"type": "file", "path": path, **self._facts(files[path])} for path in files]
        else:
            blobs = query.get("blobs") == ["True"] or query.get("blobs") == ["true"]
            answer = {
                "id": repo,
                "modelId": repo,
                "sha": commit,
                "private": self.repositories[repo].private,
                "gated": "manual" if self.repositories[repo].gated else False,
                "tags": [],
                "downloads": 0,
                "siblings": [
                    {"rfilename": path} | (self._facts(files[path], "blobId", "sha256") if blobs else {})
                    for path in files
                ],
            }
        handler.reply(200, {"Content-Type": "application/json"}, json.dumps(answer).encode())

    def _facts(self, data: bytes, name: str = "oid", digest: str = "oid") -> dict[str, Any]:
        blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        facts: dict[str, Any] = {"size": len(data), name: blob}
        if len(data) >= self.large:
            facts["lfs"] = {digest: sha256(data), "size": len(data), "pointerSize": 134}
        return facts

    def _resolve(self, handler: Handler, repo: str, revision: str, path: str) -> None:
        found = self._found(handler, repo, revision)
        if found is None:
            return
        commit, files = found
        if self.repositories[repo].gated and handler.headers.get("Authorization") != f"Bearer {self.token}":
            handler.reply(403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})
        elif path not in files:
            handler.reply(404, {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"})
        elif len(files[path]) >= self.large:
            data = files[path]
            storage = self.storage.url.replace("127.0.0.1", "localhost")
            where = f"{storage}/{sha256(data)}?X-Amz-Signature=hf_signed"
            linked = {"X-Linked-Etag": f'"{sha256(data)}"', "X-Linked-Size": str(len(data))}
            handler.reply(302, {"X-Repo-Commit": commit, "Location": where, **linked})
        else:
            blob = self._facts(files[path])["oid"]
            self.site.files[handler.path] = files[path]
            fault = self.site.fault(handler.path)
            etag = fault.etag or f'"{blob}"'
            headers = {"X-Repo-Commit": commit, **fault.headers}
            handler.answer(handler.path, type(fault)(etag=etag, headers=headers))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextmanager
def hub() -> Iterator[Hub]:
    """A Hub until the end of the block."""
    with serving() as site, serving() as storage:
        found = Hub(site, storage)
        site.route = found.route
        yield found
