"""The exceptions that a user may see.

    WanrunError
    ├── InvalidRequest        a prompt, setting, name or file that cannot be used as asked
    │   └── ModelfileError    a Modelfile with mistakes, all of them listed with line and column
    ├── ModelNotFound         a bundle, component or file that is not there
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
