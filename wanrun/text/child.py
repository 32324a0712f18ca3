"""Starts the process of an encoder or a language model, and turns what happens to it into answer or error."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO

from wanrun.errors import EncoderError
from wanrun.text.frames import ERROR, read_frame, write_frame

_LAST_BYTES = 4096
_LAST_LINES = 5


class Child:
    """A worker process: one request at a time, from any thread; it dies with its parent or on ``close``.

    ``module`` is run with the model and the number of threads; ``name`` is what errors call it.
    """

    def __init__(
        self,
        model: Path,
        threads: int,
        timeout_s: float,
        module: str = "wanrun.text.worker",
        name: str = "text encoder",
    ) -> None:
        self._name = name
        #: Seconds that the model may take to load, and then each request.
        self.timeout_s = timeout_s
        self._lock = threading.Lock()
        self._timed_out = self._closed = False
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, str(model), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment(),
            # Ctrl-C is the caller's to handle; it ends the worker by closing.
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def receive(self, expected: bytes) -> bytes:
        """The payload of the next message. Raises EncoderError when it is an error, late, or never comes."""
        with self._lock:
            return self._receive(expected)

    def ask(self, kind: bytes, payload: bytes, expected: bytes) -> bytes:
        """Send a message and return the payload of the answer. Raises EncoderError as ``receive`` does."""
        with self._lock:
            assert self._process.stdin is not None
            try:
                write_frame(self._process.stdin, kind, payload)
                return self._receive(expected)
            except (OSError, ValueError) as error:  # ValueError: the pipe was closed
                raise self._failure() from error
            except EncoderError:
                raise
            except BaseException:
                self._process.kill()  # interrupted: the next answer would be this request's
                raise

    def close(self) -> None:
        """End the process and wait until its memory is free."""
        self._closed = True
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            assert stream is not None
            with contextlib.suppress(OSError):  # a request that was never flushed to a dead process
                stream.close()

    def _receive(self, expected: bytes) -> bytes:
        assert self._process.stdout is not None
        timer = threading.Timer(self.timeout_s, self._expire)
        timer.start()
        try:
            frame = read_frame(self._process.stdout)
        finally:
            timer.cancel()
        if frame is None:
            raise self._failure()
        kind, payload = frame
        if kind == ERROR:
            raise EncoderError(
                f"the {self._name} failed: {payload.decode(errors='replace')}{self._last_lines()}"
            )
        if kind != expected:
            raise self._failure()
        return payload

    def _expire(self) -> None:
        self._timed_out = True
        self._process.kill()

    def _failure(self) -> EncoderError:
        self._process.kill()  # no effect on the one that is dead; whatever else sent nonsense has to go
        status = self._process.wait()
        if self._closed:
            return EncoderError(f"the {self._name} is closed; load it again")
        reason = f"did not answer within {self.timeout_s:g} s" if self._timed_out else _reason(status)
        return EncoderError(f"the {self._name}'s process {reason}{self._last_lines()}")

    def _last_lines(self) -> str:
        if self._log.closed:
            return ""
        end = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, end - _LAST_BYTES))
        lines = self._log.read().decode(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()][-_LAST_LINES:]
        return "".join(f"\n  {line}" for line in said)


def environment() -> dict[str, str]:
    """The caller's environment and import path, without the debugger that ggml starts on an abort."""
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    return {**os.environ, "PYTHONPATH": path, "GGML_NO_BACKTRACE": "1"}


def _reason(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hints = {
        "SIGABRT": "llama.cpp aborted; the file may be damaged",
        "SIGKILL": "out of memory, perhaps: try a smaller quantisation of it",
        "SIGSEGV": "llama.cpp crashed; the file may be damaged",
        "SIGBUS": "the file was cut short while it was read",
    }
    return f"was ended by {name}" + (f" ({hints[name]})" if name in hints else "")
