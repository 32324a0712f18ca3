"""Makes videos, as a process of its own: ``python -m wanrun.runtime.worker``.

It reads tasks on stdin and answers each with its progress and its end, until stdin ends. It stands alone
so that a crash or a lack of memory ends one video and not the server. Its libraries stay loaded.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import traceback
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from wanrun import settings
from wanrun.errors import InvalidRequest, WanrunError
from wanrun.runtime import machine, runs
from wanrun.runtime.interrupt import Cancelled, Interrupt
from wanrun.runtime.messages import (
    CANCEL,
    CANCELLED,
    DONE,
    FAILED,
    PREVIEW,
    PROGRESS,
    READY,
    TASK,
    Task,
    pack,
    unpack_task,
)
from wanrun.runtime.previews import Previews
from wanrun.store.creation import resolve
from wanrun.store.store import open_store
from wanrun.text.frames import read_frame, write_frame
from wanrun.types import Bundle, GenerationRequest, Tally

if TYPE_CHECKING:
    from torch import Tensor


class Worker:
    """Does tasks in the main thread, while another one listens for what it should stop."""

    def __init__(self, requests: BinaryIO, answers: BinaryIO) -> None:
        self._requests, self._answers = requests, answers
        self._interrupt = Interrupt()
        self._tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._current: int | None = None

    def serve(self) -> int:
        """Do tasks until stdin ends or one of them fails in a way that nobody foresaw; the exit status."""
        threading.Thread(target=self._listen, daemon=True).start()
        self._say(READY)
        while self._do(self._tasks.get()):
            pass
        return 1

    def _listen(self) -> None:
        while (frame := read_frame(self._requests)) is not None:
            kind, payload = frame
            with self._lock:
                if kind == TASK:
                    task = unpack_task(payload)
                    self._current = task.number
                    self._interrupt.reset()
                    self._tasks.put(task)
                elif kind == CANCEL and self._current == int(payload):
                    self._interrupt.ask()
        # nobody waits for the video any more; every step so far is on disk
        os._exit(0)

    def _do(self, task: Task) -> bool:
        """Make the video and say how it ended; whether this process can go on."""
        try:
            self._make(task)
        except Cancelled as cancelled:
            # what was being imported would stay half there
            return self._end(CANCELLED) and not imports(cancelled)
        except WanrunError as error:
            return self._end(FAILED, str(error))
        except Exception as error:
            traceback.print_exc()
            self._end(FAILED, f"{type(error).__name__}: {error}")
            return False
        return self._end(DONE)

    def _make(self, task: Task) -> None:
        from wanrun import pipeline
        from wanrun.runtime.generate import frames
        from wanrun.video.writer import open_writer

        with open_store().hold():
            with self._interrupt.armed():
                run = runs.find(settings.home(), task.run_id)
                bundle = resolve(open_store(), runs.model(run))
                request = pipeline.expand(bundle, runs.request(run, bundle), self._progress)
                if machine.load(task.device) is None:
                    self._progress("measuring the machine", 0, 0)
                resident = _resident(bundle, request, task.device)
                tally = Tally()
                describe = partial(pipeline.provenance, bundle, request, tally)
            with (
                Previews(bundle, task.device, request.precision) as previews,
                open_writer(task.output, request.fps, task.format, describe) as writer,
            ):
                show = partial(self._preview, previews)
                made = frames(run, bundle, request, self._progress, task.device, resident, show, tally)
                with self._interrupt.armed():
                    for frame in made:
                        writer.write(frame)

    def _progress(self, phase: str, done: int, total: int) -> None:
        self._say(PROGRESS, pack([phase, done, total]))

    def _preview(self, previews: Previews, index: int, latents: Tensor, clean: Tensor) -> None:
        picture = previews.take(clean)
        if picture is not None:
            self._say(PREVIEW, picture)

    def _end(self, kind: bytes, reason: str = "") -> bool:
        with self._lock:
            self._current = None
        self._say(kind, pack(reason))
        return True

    def _say(self, kind: bytes, payload: bytes = b"") -> None:
        with self._interrupt.held():  # half a frame would be the end of the conversation
            write_frame(self._answers, kind, payload)


def imports(error: BaseException) -> bool:
    """Whether ``error`` came while a module was being imported."""
    return any(frame.f_code.co_name == "<module>" for frame, _ in traceback.walk_tb(error.__traceback__))


def _resident(bundle: Bundle, request: GenerationRequest, device: str) -> int | None:
    """Bytes to spend on weights that stay ready; raises OutOfMemoryBudget for what does not fit.

    None on a machine that cannot be measured: that is no reason not to run.
    """
    from wanrun.runtime.estimate import open_estimator

    try:
        estimator = open_estimator(bundle, device, None)
    except InvalidRequest:
        raise
    except WanrunError:
        return None
    return estimator.check(request).resident


def main() -> int:
    # libraries print to stdout, and programs that they start read stdin: the pipes must be ours alone
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    return Worker(requests, answers).serve()


if __name__ == "__main__":
    try:
        status = main()
    except BrokenPipeError:
        status = 0  # nobody listens any more
    sys.stderr.flush()
    os._exit(status)  # the listening thread cannot be joined: it waits for stdin
