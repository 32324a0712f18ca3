"""This machine's numbers: those that are kept, or measured now in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

from wanrun import settings
from wanrun.errors import WanrunError
from wanrun.runtime import machine
from wanrun.runtime.machine import Machine
from wanrun.text.child import environment

_TIMEOUT_S = 1800.0


def calibrated(device: str) -> Machine:
    """The numbers for ``device``, measured first if there are none: seconds on a machine that is idle.

    Raises WanrunError with what the measuring process said when it fails.
    """
    known = machine.load(device)
    if known is None:
        known = measured(device)
        machine.save(known, device)
    return known


def measured(device: str) -> Machine:
    """The numbers for ``device``, measured now; raises as ``calibrated``."""
    command = [sys.executable, "-P", "-m", "wanrun.runtime.measure", device]
    threads = {"OMP_NUM_THREADS": str(settings.threads())}
    try:
        done = subprocess.run(
            command,
            env=threads | environment(),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        return machine.parse(json.loads(done.stdout.splitlines()[-1]))
    except subprocess.TimeoutExpired as error:
        raise WanrunError(f"measuring this machine took over {_TIMEOUT_S:.0f} s") from error
    except (IndexError, ValueError, TypeError, KeyError) as error:
        said = done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"]
        raise WanrunError(f"this machine could not be measured: {said[-1]}") from error
