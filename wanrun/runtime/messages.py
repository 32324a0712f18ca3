"""What a worker and the process that started it say to each other, in frames of ``wanrun.text.frames``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

#: To the worker: a Task; and the number of the task that is to stop.
TASK, CANCEL = b"T", b"C"
#: From the worker, once, when it can take tasks.
READY = b"R"
#: From the worker, for its task: [phase, done, total]; a PNG; and its end, one of three.
PROGRESS, PREVIEW = b"P", b"V"
DONE, FAILED, CANCELLED = b"D", b"F", b"X"


@dataclass(frozen=True, slots=True)
class Task:
    """A video to make: the run that holds its request, and the absolute path that it goes to."""

    run_id: str
    output: str
    format: str = "mp4"
    device: str = "auto"
    number: int = 0

    def pack(self) -> bytes:
        return pack(asdict(self))


def pack(values: Any) -> bytes:
    """JSON that any text fits into."""
    return json.dumps(values).encode()


def unpack_task(payload: bytes) -> Task:
    """The task that was packed."""
    return Task(**json.loads(payload))
