"""The exceptions that a user may see.

    WanrunError
    ├── InvalidRequest        a prompt, setting, name or file that cannot be used as asked
    │   ├── ModelfileError    a Modelfile with mistakes, all of them listed with line and column
    │   ├── InvalidParameter  a field of a request's body that cannot be used; names it
    │   ├── KeyReused         an idempotency key that came with another request before
    │   └── JobNotReady       what cannot be done to a job in the state that it is in
    ├── ModelNotFound         a bundle, component or file that is not there
    ├── JobNotFound           a job that is not there
    ├── QueueFull             more jobs than may wait; says when to come back
    ├── FormatError           a GGUF, safetensors or other file whose bytes are not what they claim
    ├── DownloadError         bytes that did not arrive, or arrived wrong
    ├── StoreError            the local store could not keep its promises (disk full, damaged, locked)
    ├── PluginError           a plugin that is missing or does not load
    ├── EncoderError          the text encoder's process failed
    └── OutOfMemoryBudget     a run that does not fit in the memory it was given

A message says what was wrong, the value, and what to do. Errors are raised deep and shown once: the
command line prints ``Error: …`` and exits 1, the server maps them to a status.
"""

from __future__ import annotations


class WanrunError(Exception):
    """Base of every error that is the user's to read rather than ours to debug."""


class InvalidRequest(WanrunError):
    """A prompt, setting, name or combination of files that cannot be used as asked."""


class ModelNotFound(WanrunError):
    """A bundle, component or file that is not there."""


class FormatError(WanrunError):
    """A model file whose bytes are not what they claim to be."""


class DownloadError(WanrunError):
    """Bytes that did not arrive, or arrived wrong."""


class StoreError(WanrunError):
    """The store could not keep its promises: disk full, damaged, locked."""


class PluginError(WanrunError):
    """A plugin that is missing or does not load."""


class EncoderError(WanrunError):
    """The text encoder's process failed: crashed, aborted, timed out."""


class JobNotFound(WanrunError):
    """A job that is not there."""


class QueueFull(WanrunError):
    """More jobs than may wait; ``retry_after_s`` is when one of them will probably have started."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class InvalidParameter(InvalidRequest):
    """A field of a request's body that cannot be used; ``param`` is its name, None for the whole body."""

    def __init__(self, param: str | None, message: str) -> None:
        self.param = param
        super().__init__(message)


class KeyReused(InvalidRequest):
    """An idempotency key that came with another request before."""


class JobNotReady(InvalidRequest):
    """What cannot be done to a job in the state that it is in."""


class OutOfMemoryBudget(WanrunError):
    """A run that does not fit in the memory it was given."""


class ModelfileError(InvalidRequest):
    """A Modelfile with mistakes.

    ``problems`` holds one ``(line, column, message)`` per mistake, counted from 1, in file order.
    """

    def __init__(self, problems: list[tuple[int, int, str]]) -> None:
        self.problems = problems
        super().__init__(
            "\n".join(f"line {line}, column {column}: {text}" for line, column, text in problems)
        )
