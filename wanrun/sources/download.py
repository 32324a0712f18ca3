"""Brings a remote file into the blob folder: resumed, shared, checked, published."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from wanrun.errors import DownloadError
from wanrun.sources import parts
from wanrun.sources.parts import Layout
from wanrun.sources.policy import Policy
from wanrun.sources.ranged import Changed
from wanrun.sources.remote import Refused, Remote, check
from wanrun.sources.transfer import Transfer
from wanrun.store.blobs import blob_path, has_blob
from wanrun.store.digest import Digest
from wanrun.store.durable import publish, store_errors
from wanrun.types import Progress

__all__ = ["Policy", "Refused", "Remote", "download"]

_USUAL = Policy()
_CHUNK = 1 << 21


def download(remote: Remote, blobs: Path, progress: Progress, policy: Policy = _USUAL) -> tuple[Digest, int]:
    """Brings the bytes into the folder ``blobs`` as a blob; returns their digest and number.

    Goes on from what any process has left there, and waits for a process or thread that is at the same file.
    The blob appears when all its bytes are there, on the disk, with the length and digest that ``remote``
    gives. Hold the store until a manifest names the blob, or a sweep may take it.

    Raises DownloadError (Refused when the server said no), InvalidRequest for a url or header that cannot be
    sent, StoreError when the disk is full or fails.
    """
    check(remote)
    path = parts.partial_path(blobs, remote)

    def waiting(done: int, total: int) -> None:
        progress(f"pulling {remote.label}", done, total)

    with store_errors(f"cannot download {remote.label}"):
        while (found := _present(remote, blobs)) is None:
            with parts.claim(path, waiting) as (descriptor, ours):
                if not ours:
                    found = _given_by_another(remote, blobs, descriptor)
                elif (found := _present(remote, blobs)) is not None:
                    parts.discard(path)
                else:
                    try:
                        found = _fetch(remote, policy, path, descriptor, progress)
                        _publish(blobs, path, descriptor, found)
                    except BaseException:
                        parts.tidy(path)
                        raise
            if found is not None:
                break
    return found


def _present(remote: Remote, blobs: Path) -> tuple[Digest, int] | None:
    if remote.digest is None:
        return None
    try:
        size = blob_path(blobs, remote.digest).stat().st_size
    except FileNotFoundError:
        return None
    sound = remote.size in (None, size) and has_blob(blobs, remote.digest, size)
    return (remote.digest, size) if sound else None


def _given_by_another(remote: Remote, blobs: Path, descriptor: int) -> tuple[Digest, int] | None:
    """What another process or thread made of the partial file that we waited for."""
    if remote.digest is not None:
        return _present(remote, blobs)
    sha256, size = hashlib.sha256(), 0
    while chunk := os.pread(descriptor, _CHUNK, size):
        sha256.update(chunk)
        size += len(chunk)
    digest = Digest(sha256.hexdigest())
    return (digest, size) if has_blob(blobs, digest, size) else None


def _fetch(
    remote: Remote, policy: Policy, path: Path, descriptor: int, progress: Progress
) -> tuple[Digest, int]:
    """Fills the partial file; starts over when its bytes turn out to be of no use."""
    layout, whole = parts.load(path, descriptor), False
    if remote.size not in (None, layout.size):
        layout = Layout()
    for turn in range(1, policy.tries + 1):
        resumed = layout.done > 0
        if not resumed:
            _empty(path, descriptor)
        transfer = Transfer(remote, policy, path, descriptor, layout, whole)
        try:
            found = transfer.run(progress)
        except Changed as change:
            reason = f"cannot download {remote.label}: {change}"
            whole = remote.digest is None and not layout.validator
        else:
            if remote.digest in (None, found[0]):
                return found
            reason = f"{remote.label} is damaged: its digest is {found[0]}, not {remote.digest}"
            if not (resumed or transfer.mixed):
                break
        layout = Layout()
        time.sleep(policy.pause(turn) if turn > 1 else 0)
    _empty(path, descriptor)
    parts.discard(path)
    raise DownloadError(f"{reason}; nothing of it was kept")


def _empty(path: Path, descriptor: int) -> None:
    parts.forget(path)
    os.ftruncate(descriptor, 0)


def _publish(blobs: Path, path: Path, descriptor: int, found: tuple[Digest, int]) -> None:
    if has_blob(blobs, *found):
        parts.discard(path)
    else:
        os.fchmod(descriptor, 0o444)
        publish(descriptor, path, blob_path(blobs, found[0]))
        parts.forget(path)
