"""Runs a measurement in a process of its own, and watches how much memory it takes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SAMPLE_S = 0.02


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a child printed, or why it did not, and the most anonymous memory that it held."""

    told: dict[str, Any]
    peak_bytes: int
    problem: str = ""


def run_child(module: str, task: dict[str, Any]) -> Outcome:
    """``python -m MODULE TASK``, which prints one JSON object as its last line.

    A child that does not support its task exits with 3 and says why on standard error.
    """
    command = [sys.executable, "-m", module, json.dumps(task)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, _anonymous(process.pid))
            time.sleep(_SAMPLE_S)
        out, err = process.communicate()
    if process.returncode:
        last = (err.strip().splitlines() or ["no message"])[-1]
        return Outcome({}, peak, last if process.returncode == 3 else f"failed: {last}")
    return Outcome(json.loads(out.strip().splitlines()[-1]), peak)


def _anonymous(pid: int) -> int:
    """Bytes of memory that no file backs: mapped weights do not count, copies of them do."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("RssAnon")), 0)
