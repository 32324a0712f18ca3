"""Says how much memory a new process can have."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def free_memory() -> int:
    """Bytes of main memory that no program uses; what caches hold counts as free.

    A container's limit counts. Systems that do not say what is free get all that they have.
    """
    known = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text("ascii").splitlines():
            if line.startswith("MemAvailable:"):
                known.append(int(line.split()[1]) * 1024)
    with suppress(OSError, ValueError):
        limit, used = ((_CGROUP / f"memory.{name}").read_text("ascii") for name in ("max", "current"))
        known.append(max(0, int(limit) - int(used)))
    return min(known)


def oom_kills() -> int:
    """Processes that the system has ended for want of memory since it started; 0 where it does not say."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text("ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
