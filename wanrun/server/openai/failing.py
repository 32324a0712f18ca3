"""Which errors a route answers with, for the OpenAPI document: each in OpenAI's form."""

from __future__ import annotations

from typing import Any

from wanrun.server.openai.answers import ErrorAnswer

Responses = dict[int | str, dict[str, Any]]


def errors(**descriptions: str) -> Responses:
    """A status as a name such as ``s404``, and when it is answered."""
    return {
        int(status.removeprefix("s")): {"model": ErrorAnswer, "description": text}
        for status, text in descriptions.items()
    }


#: What any request may be refused with.
REFUSED = errors(
    s400="What was asked for cannot be done; the message says why, and what can.",
    s401="The API key is missing or wrong.",
    s403="The request comes from a page or for a host that is not this server's.",
    s429="Too many requests.",
)
#: For routes that name a video or a model.
MISSING = errors(s404="There is no such video or model.")
#: For routes that may have a body.
SENT = errors(s408="The body did not arrive.", s413="The body is too large.")
#: For routes that make a job.
ORDERING = (
    MISSING
    | SENT
    | errors(
        s422="The Idempotency-Key came with another request before.",
        s503="The queue is full; Retry-After says when to come back.",
    )
)
#: For routes that wait for a video.
WAITING = ORDERING | errors(s500="The video could not be made; the message says why.")
