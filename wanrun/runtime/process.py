"""Starts a worker, gives it tasks, and turns whatever happens to it into an outcome."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import IO, Literal

from wanrun import settings
from wanrun.runtime.messages import CANCEL, CANCELLED, DONE, FAILED, PREVIEW, PROGRESS, READY, TASK, Task
from wanrun.text.child import environment
from wanrun.text.frames import read_frame, write_frame

#: How often the caller is asked whether to stop.
_TICK_S = 0.05
#: A worker that does not stop within this is killed: it is within one long call of a library.
_GRACE_S = 20.0
_LAST_BYTES = 4096
_REASON_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended, and why if it was not done; ``signal`` names what ended the worker, or is ""."""

    kind: Literal["done", "failed", "cancelled", "died"]
    reason: str = ""
    signal: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """Where a task is: its phase, what is done and all of it, or a PNG of what there is so far."""

    phase: str = ""
    done: int = 0
    total: int = 0
    preview: bytes | None = None


class Process:
    """A worker process: one task at a time. It dies with its parent or on ``close``."""

    def __init__(self, grace_s: float = _GRACE_S) -> None:
        self._grace_s = grace_s
        self._number = 0
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "wanrun.runtime.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            # torch reads it once, when it is imported
            env={"OMP_NUM_THREADS": str(settings.threads())} | environment(),
            # Ctrl-C is the server's to handle; it ends the worker by closing
            start_new_session=True,
        )
        self._frames: queue.SimpleQueue[tuple[bytes, bytes] | None] = queue.SimpleQueue()
        self._pump = threading.Thread(target=self._read, daemon=True)
        self._pump.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def run(self, task: Task, tell: Callable[[Report], None], stop: Callable[[], bool]) -> Outcome:
        """Have the task done. ``tell`` hears how far it is; once ``stop`` says so, it is cancelled.

        After "died" the process is gone, and after another outcome it may be: see ``alive``.
        """
        self._number += 1
        said = self._log.seek(0, os.SEEK_END)
        try:
            self._send(TASK, replace(task, number=self._number).pack())
            return self._listen(tell, stop, said)
        except BaseException:
            self.close()  # the next answer would be this task's
            raise

    def close(self) -> None:
        """End the process and wait until its memory is free."""
        self._process.kill()
        self._process.wait()
        self._pump.join()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            assert stream is not None
            with contextlib.suppress(OSError):  # a task that was never flushed to a dead process
                stream.close()

    def _listen(self, tell: Callable[[Report], None], stop: Callable[[], bool], said: int) -> Outcome:
        deadline: float | None = None
        while True:
            if deadline is None and stop():
                deadline = time.monotonic() + self._grace_s
                self._send(CANCEL, str(self._number).encode())
            try:
                frame = self._frames.get(timeout=_TICK_S)
            except queue.Empty:
                if deadline is not None and time.monotonic() > deadline:
                    self.close()
                    return Outcome("cancelled")
                continue
            if frame is None:
                return self._death(said)
            kind, payload = frame
            if kind == PROGRESS:
                tell(Report(*json.loads(payload)))
            elif kind == PREVIEW:
                tell(Report(preview=payload))
            elif kind in _ENDS:
                return Outcome(_ENDS[kind], without_paths(json.loads(payload)))
            elif kind != READY:
                self._process.kill()

    def _send(self, kind: bytes, payload: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it died: the reader says so
            write_frame(self._process.stdin, kind, payload)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(ValueError, OSError):
            while (frame := read_frame(self._process.stdout)) is not None:
                self._frames.put(frame)
        self._frames.put(None)

    def _death(self, said: int) -> Outcome:
        self._process.kill()  # no effect on the one that is dead; whatever else closed its pipe has to go
        self._frames.put(None)  # for the next task, should there be one
        status = self._process.wait()
        name = _signal_name(status)
        reason = f"the worker was ended by {name}" if name else f"the worker ended with status {status}"
        reason += _HINTS.get(name, "")
        last = self._last_line(said)
        return Outcome("died", f"{reason}; it last said: {last}" if last else reason, name)

    def _last_line(self, said: int) -> str:
        end = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(said, end - _LAST_BYTES))
        lines = self._log.read().decode(errors="replace").split("\n")
        return without_paths(next((line.strip() for line in reversed(lines) if line.strip()), ""))


_ENDS: dict[bytes, Literal["done", "failed", "cancelled"]] = {
    DONE: "done",
    FAILED: "failed",
    CANCELLED: "cancelled",
}
_HINTS = {
    "SIGKILL": " (out of memory, perhaps: try a smaller size, fewer frames or a smaller quantisation)",
    "SIGABRT": " (a library aborted)",
    "SIGSEGV": " (a library crashed; a file may be damaged)",
    "SIGBUS": " (a file was cut short while it was read, or memory ran out)",
}
_PATH = re.compile(r"(?<![\w.:/])(?:[A-Za-z]:)?[/\\](?:[^\s/\\:'\",]+[/\\])+([^\s/\\:'\",]*)")


def without_paths(text: str) -> str:
    """``text`` with only the last part of each path: where files lie is the server's business alone."""
    return _PATH.sub(r"\1", text)[:_REASON_CHARACTERS]


def _signal_name(status: int) -> str:
    if status >= 0:
        return ""
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
