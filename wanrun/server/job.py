"""What a job is: an order for a video, and how far it has come."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from wanrun.errors import InvalidRequest
from wanrun.store.names import parse_name
from wanrun.types import GenerationRequest
from wanrun.video.destination import FORMATS

Status = Literal["queued", "running", "completed", "failed", "cancelled"]
STATUSES: tuple[Status, ...] = ("queued", "running", "completed", "failed", "cancelled")
#: What a job stays in once it is in it.
FINISHED: tuple[Status, ...] = ("completed", "failed", "cancelled")

#: Higher is sooner.
PRIORITIES = range(-100, 101)
_KEY_CHARACTERS = 255
_REQUEST_CHARACTERS = 8_000_000


@dataclass(frozen=True, slots=True)
class Order:
    """What a client asks for.

    Two orders with one idempotency ``key`` are the same if their ``asked`` is: it is what the client sent,
    while ``request`` has a seed that may have been drawn. Without ``asked``, the request counts.
    """

    model: str
    request: GenerationRequest
    priority: int = 0
    key: str | None = None
    asked: Mapping[str, Any] = field(default_factory=dict)
    format: str = "mp4"

    def __post_init__(self) -> None:
        """Raises InvalidRequest for what cannot be kept."""
        parse_name(self.model)
        if type(self.priority) is not int or self.priority not in PRIORITIES:
            raise InvalidRequest(
                f"priority must be {PRIORITIES[0]} to {PRIORITIES[-1]}, not {self.priority!r:.40}"
            )
        if self.key is not None and not (0 < len(self.key) <= _KEY_CHARACTERS and self.key.isprintable()):
            raise InvalidRequest(f"an idempotency key has 1 to {_KEY_CHARACTERS} printable characters")
        if self.format not in FORMATS[:-1]:
            raise InvalidRequest(f"format must be one of {', '.join(FORMATS[:-1])}, not {self.format!r:.40}")

    @property
    def name(self) -> str:
        """The model's name as it is always written."""
        return str(parse_name(self.model))

    @property
    def fingerprint(self) -> str:
        """The same for the same order, whenever it comes."""
        asked = dict(self.asked) or asdict(self.request)
        return hashlib.sha256(encode([self.name, self.format, asked]).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it was when it was read. Times are in seconds since 1970, ``size`` is in bytes."""

    id: str
    model: str
    request: GenerationRequest
    priority: int
    key: str | None
    format: str
    status: Status
    created: float
    started: float | None
    finished: float | None
    #: text, denoise or decode; "" before the first.
    phase: str
    #: Done and all of it, in the phase's own unit; 0 for all means unknown.
    step: int
    total: int
    #: Steps a second in this phase, and seconds until it is over.
    rate: float | None
    left_s: float | None
    #: Why it failed, for people.
    error: str | None
    #: The run that keeps its checkpoint; see ``wanrun.runtime.runs``.
    run_id: str | None
    #: The video's name in the folder of outputs.
    output: str | None
    size: int | None
    #: Times that a worker has begun with it.
    attempts: int
    #: Whether it is to be cancelled as soon as its worker notices.
    cancelling: bool

    @property
    def over(self) -> bool:
        """Whether it will not change any more."""
        return self.status in FINISHED


def encode(values: Any) -> str:
    """ASCII JSON, the same for the same values; InvalidRequest for what JSON has no word for."""
    try:
        text = json.dumps(values, sort_keys=True, allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidRequest(f"the request cannot be written down: {error}") from error
    if len(text) > _REQUEST_CHARACTERS:
        raise InvalidRequest(f"the request is too long: {len(text)} characters of {_REQUEST_CHARACTERS}")
    return text
