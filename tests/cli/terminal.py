"""A command at a terminal, and the person in front of it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CTRL_C, CTRL_D = "\x03", "\x04"
_PATIENCE_S = 180.0
_MOMENT_S = 0.5


class Terminal:
    """What ``process`` shows, and what is typed."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self.process, self._descriptor = process, descriptor
        self._unread = b""

    def type(self, text: str | bytes) -> None:
        """Press these keys."""
        os.write(self._descriptor, text.encode() if isinstance(text, str) else text)

    def interrupt(self) -> None:
        """Press Ctrl-C, a moment after what was shown last, as a person does.

        CPython's ``input`` loses a signal that comes between its prompt and its wait for a key.
        """
        time.sleep(_MOMENT_S)
        self.type(CTRL_C)

    def until(self, words: str) -> str:
        """What is shown up to and with ``words``."""
        end, deadline = words.encode(), time.monotonic() + _PATIENCE_S
        while end not in self._unread:
            assert time.monotonic() < deadline, self._unread
            more = self._read()
            assert more, self._unread
            self._unread += more
        shown, _, self._unread = self._unread.partition(end)
        text = (shown + end).decode(errors="replace")
        return text.replace("\x1b[?2004h", "").replace("\x1b[?2004l\r", "")  # around what is typed

    def answer(self, line: str | bytes) -> str:
        """What is shown between the line and the next prompt."""
        self.type(line)
        self.type("\n")
        return self.until(">>> ")

    def end(self) -> int:
        """The process's status, once it ends by itself; what it still shows is let go."""
        while self._read():
            pass
        return self.process.wait(_PATIENCE_S)

    def _read(self) -> bytes:
        ready, _, _ = select.select([self._descriptor], [], [], _PATIENCE_S)
        try:
            return os.read(self._descriptor, 65_536) if ready else b""
        except OSError:  # how a terminal says that the other side is gone
            return b""


@contextmanager
def terminal(*arguments: str, cwd: Path) -> Iterator[Terminal]:
    """``wanrun ARGUMENTS`` at a terminal of its own."""
    ours, theirs = pty.openpty()

    def take() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "wanrun.cli", *arguments],
        cwd=cwd, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, preexec_fn=take,
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "300"},
    )  # fmt: skip
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
