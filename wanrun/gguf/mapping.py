"""Maps a regular file into memory."""

from __future__ import annotations

import mmap
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path

from wanrun.errors import FormatError, InvalidRequest, ModelNotFound

#: Without it Linux refuses a private mapping larger than memory and swap, although nobody means to write
#: to it. Python names the flag from 3.13 on; x86, ARM and RISC-V agree on its value.
_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)


def map_file(path: Path, *, private: bool = False) -> mmap.mmap:
    """The bytes of ``path``, read-only; or, if ``private``, writable without ever reaching the file.

    Only regular files that are not empty are mapped, and opening a pipe or device never waits.
    Raises ModelNotFound, InvalidRequest (not readable) and FormatError (not such a file).
    """
    flags = (
        os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    )
    try:
        descriptor = os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelNotFound(f"no such file: {path}") from error
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{path} cannot be opened: {error}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
            raise FormatError(f"{path} is {kind}; a GGUF or safetensors file is needed")
        if status.st_size == 0:
            raise FormatError(f"{path} is empty; download it again")
        return _map(descriptor, status.st_size, private)
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{path} cannot be mapped into memory: {error}") from error
    finally:
        os.close(descriptor)


def prefetch(path: Path) -> None:
    """Ask the system to read ``path`` into its page cache meanwhile, for a mapping that comes soon.

    Takes no memory that the system could not take back, and does nothing where it cannot be done.
    """
    if not hasattr(os, "posix_fadvise"):
        return
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(descriptor)


def _map(descriptor: int, size: int, private: bool) -> mmap.mmap:
    if not private:
        return mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)
    if sys.platform == "win32":
        return mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY)
    return mmap.mmap(
        descriptor, size, flags=mmap.MAP_PRIVATE | _NORESERVE, prot=mmap.PROT_READ | mmap.PROT_WRITE
    )
