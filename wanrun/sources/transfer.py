"""Moves the bytes of one download: workers fetch pieces, one thread hashes behind them, one keeps a journal.

Bytes are hashed as soon as everything before them is there, so the digest is known shortly after the last.
Of an earlier process only its bytes are trusted, and hashed again. A worker that hangs in a connect when the
transfer ends is left behind: it finds its line closed and writes no more.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from wanrun.errors import DownloadError, StoreError
from wanrun.sources import parts
from wanrun.sources.parts import Layout, Piece
from wanrun.sources.policy import Policy
from wanrun.sources.ranged import Answer, Changed, Line, Passing, ask
from wanrun.sources.remote import Remote
from wanrun.store.digest import Digest
from wanrun.types import Progress

_TICK_S = 0.1
_HASH_POLL_S = 0.005
_HASHED_AT_ONCE = 1 << 21
_MAX_PIECES = 1 << 12


@dataclass(slots=True)
class Transfer:
    """A download into ``descriptor``, the partial file at ``path``; ``whole`` asks for it in one answer."""

    remote: Remote
    policy: Policy
    path: Path
    descriptor: int
    layout: Layout
    whole: bool = False
    #: Whether answers came from more than one version of the file.
    mixed: bool = False
    _digest: Digest | None = None
    _hashed: int = 0
    _answered: bool = False
    _taken: int = 0
    _error: BaseException | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stop: threading.Event = field(default_factory=threading.Event)
    _wake: threading.Event = field(default_factory=threading.Event)
    _lines: list[Line] = field(default_factory=list)

    def run(self, progress: Progress) -> tuple[Digest, int]:
        """Fetches what is missing; returns digest and size.

        Raises Changed, DownloadError, StoreError or OSError.
        """
        if not self.layout.pieces:
            first = min(self.remote.size or self.policy.piece, self.policy.piece)
            self.layout.pieces = [Piece(0, 0, first)]
        context = httpx.create_ssl_context()
        threads = [self._start(self._hash), self._start(self._keep)]
        try:
            self._add_worker(context)
            while self._digest is None and self._error is None:
                self._wake.wait(_TICK_S)
                self._wake.clear()
                self._tick(progress)
                while self._wants_worker():
                    self._add_worker(context)
        finally:
            self._close(threads)
        if self._error is not None:
            raise self._error
        assert self._digest is not None and self.layout.size is not None
        self._tick(progress)
        return self._digest, self.layout.size

    def _tick(self, progress: Progress) -> None:
        now = time.monotonic()
        for line in self._lines:
            line.watch(now, self.policy.stall_s, self.policy.slowest)
        size, done = self.layout.size, self.layout.done
        if done == size and self._hashed < size:
            progress(f"checking {self.remote.label}", self._hashed, size)
        else:
            progress(f"pulling {self.remote.label}", done, size or self.remote.size or 0)

    def _start(self, work: Callable[[], None]) -> threading.Thread:
        def guarded() -> None:
            try:
                work()
            except BaseException as error:  # raised again by the thread that runs the transfer
                with self._lock:
                    self._error = self._error or error
                self._stop.set()
            finally:
                self._wake.set()

        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        return thread

    def _wants_worker(self) -> bool:
        with self._lock:
            left = self._answered and any(not piece.finished for piece in self.layout.pieces[self._taken :])
        return left and len(self._lines) < self.policy.workers and not self._stop.is_set()

    def _add_worker(self, context: ssl.SSLContext) -> None:
        timeout = httpx.Timeout(self.policy.stall_s, connect=self.policy.connect_s)
        line = Line(httpx.Client(verify=context, timeout=timeout))
        self._lines.append(line)
        self._start(lambda: self._work(line))

    def _close(self, threads: list[threading.Thread]) -> None:
        self._stop.set()
        for line in self._lines:
            line.close()
        for thread in threads:
            thread.join()
        if self._digest is None and not isinstance(self._error, Changed) and self._resumable():
            with suppress(OSError):  # the disk is full: what the last journal counts is still there
                parts.save(self.path, self.descriptor, self.layout)

    def _resumable(self) -> bool:
        """Whether another process could go on: it must be able to tell that the file is still the same."""
        known = self.remote.digest is not None or self.layout.validator
        return bool(known and not self.whole and self.layout.size and self.layout.done)

    def _keep(self) -> None:
        counted = 0
        while not self._stop.wait(self.policy.save_s):
            if self.layout.done != counted and self._resumable():
                counted = self.layout.done
                parts.save(self.path, self.descriptor, self.layout)

    def _hash(self) -> None:
        sha256, space = hashlib.sha256(), memoryview(bytearray(_HASHED_AT_ONCE))
        while self._hashed != self.layout.size:
            reached = self.layout.frontier
            length = min(reached - self._hashed, len(space))
            if length and (length == len(space) or reached == self.layout.size):
                read = os.preadv(self.descriptor, [space[:length]], self._hashed)
                if not read:
                    raise StoreError(f"{self.path} was cut by another program: run the same command again")
                sha256.update(space[:read])
                self._hashed += read
            elif self._stop.wait(_HASH_POLL_S):
                return
            if self._stop.is_set():
                return
        self._digest = Digest(sha256.hexdigest())

    def _work(self, line: Line) -> None:
        with line.client:
            while (piece := self._take()) is not None:
                self._persist(line, piece)

    def _take(self) -> Piece | None:
        with self._lock:
            while self._taken < len(self.layout.pieces) and not self._stop.is_set():
                piece = self.layout.pieces[self._taken]
                self._taken += 1
                if not piece.finished:
                    return piece
        return None

    def _persist(self, line: Line, piece: Piece) -> None:
        """Fetches a piece, again and again while that helps, or while the other workers get on."""
        failures, fruitless, before, done = 0, 0, piece.position, self.layout.done
        while not piece.finished and not self._stop.is_set():
            try:
                self._fetch(line, piece)
            except Passing as failure:
                failures = 1 if piece.position - before >= self.policy.gain else failures + 1
                fruitless = 1 if self.layout.done - done >= self.policy.gain else fruitless + 1
                before = piece.position
                done = self.layout.done if fruitless == 1 else done
                if fruitless >= self.policy.tries or failure.after_s > self.policy.longest_pause_s:
                    raise self._given_up(failure, fruitless) from failure
                self._stop.wait(max(self.policy.pause(failures), failure.after_s))

    def _given_up(self, failure: Passing, failures: int) -> DownloadError:
        if failure.after_s > self.policy.longest_pause_s:
            return self._failed(f"{failure} and asks to wait {failure.after_s:.0f} s")
        return self._failed(
            f"{failure}, {failures} times in a row; run the same command again to go on from here"
        )

    def _failed(self, reason: str) -> DownloadError:
        return DownloadError(f"cannot download {self.remote.label}: {reason}")

    def _fetch(self, line: Line, piece: Piece) -> None:
        wanted = None
        if not self.whole:
            if piece.stop is None and piece.position:
                raise Changed("a file of unknown length cannot be gone on with")
            wanted = piece.position, piece.stop or self.policy.piece
        elif piece.position:
            raise Changed("it comes in one answer only, which was cut")
        with ask(line, self.remote, wanted, self.layout.validator, self.policy.redirects) as answer:
            self._learn(piece, answer)
            self._receive(line, piece, answer)
        if piece.stop is None:
            self._set_size(piece.position)
            piece.stop = piece.position

    def _receive(self, line: Line, piece: Piece, answer: Answer) -> None:
        ends = [stop for stop in (answer.stop, piece.stop, self.policy.unannounced) if stop is not None]
        stop = ends[0]
        if answer.start == stop:
            return
        for chunk in answer.response.iter_raw():
            if len(chunk) > stop - piece.position:
                raise self._failed("more bytes come than were announced")
            if not line.write(self.descriptor, chunk, piece.position):
                raise Passing("the download was stopped")
            piece.position += len(chunk)
        if piece.stop is not None and piece.position < stop:
            raise Passing("the connection was cut")

    def _learn(self, piece: Piece, answer: Answer) -> None:
        """Cuts the file up after the first answer; makes sure that every later one fits that."""
        with self._lock:
            layout, everything = self.layout, answer.response.status_code != 206
            total = self.remote.size if answer.total is None else answer.total
            if layout.size is not None and layout.size != total:
                raise Changed("its length has changed")
            self.mixed = self.mixed or layout.validator not in ("", answer.validator)
            if self._answered:
                if everything and len(layout.pieces) > 1:
                    raise Changed("the server sends it in one answer only")
                return
            if total is None and not everything:
                raise Passing("the server does not say how long the file is")
            anonymous = self.remote.digest is None and not answer.validator
            if anonymous and not everything and answer.stop != total:
                raise Changed("its versions cannot be told apart")
            layout.validator = answer.validator
            if everything:
                piece.stop, layout.pieces, self._taken = total, [piece], 1
            if total is not None:
                self._check_room(total)
                if not everything and layout.size is None:
                    self._cut_up(piece, total)
                self._set_size(total)
            self._check_verifiable(answer)
            self._answered = True

    def _cut_up(self, first: Piece, size: int) -> None:
        first.stop = min(first.stop or size, size)
        step = max(self.policy.piece, -(-size // _MAX_PIECES))
        starts = range(first.stop, size, step)
        self.layout.pieces += [Piece(at, at, min(at + step, size)) for at in starts]

    def _check_room(self, size: int) -> None:
        missing, free = size - self.layout.done, shutil.disk_usage(self.path.parent).free
        if missing > free:
            raise StoreError(
                f"no room for {self.remote.label}: {missing:,} bytes are missing, {free:,} are free in "
                f"{self.path.parent}; free some space or set WANRUN_HOME to another disk"
            )

    def _set_size(self, size: int) -> None:
        os.ftruncate(self.descriptor, size)
        self.layout.size = size

    def _check_verifiable(self, answer: Answer) -> None:
        """Without length, chunks and digest, a file that is cut could not be told from a whole one."""
        chunked = "chunked" in answer.response.headers.get("Transfer-Encoding", "").lower()
        if self.layout.size is None and self.remote.digest is None and not chunked:
            raise self._failed("the server does not say how long it is; give its #sha256=…")
