"""Whether runs with ``--target`` end when they should: seconds of real commands, each a process.

Seconds are those on the wall, or the processor's if they are fewer, as in ``tests.benchmarks.plan``: where
other programs run only these compare. With one thread they are the wall's on an idle machine.
A plain run before makes the size known.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.targets [target in seconds …]
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.benchmarks.plan import Taken, measure

TARGETS = (5.0, 8.0, 12.0, 18.0, 25.0, 35.0, 50.0, 70.0, 95.0, 120.0)
#: What is made, and the steps that make its size known.
_PROMPT = "a red ball bouncing on a blue surface"
_ASKED = ("run", "wan-toy", _PROMPT, "--size", "128x128", "--frames", "33", "-o", "out.mp4")
_KNOWN = ("--steps", "40")
#: Parts of the target between which a run should end.
_EARLY, _LATE = 0.85, 1.05


def run(folder: Path, *words: str) -> tuple[Taken, str]:
    """What the command took, and what it said was chosen."""
    taken = measure([*_ASKED, *words], folder)
    said = re.search(r"chosen: .*", (folder / "log").read_text("utf-8", "replace"))
    return taken, said[0] if said else ""


def main(*targets: float) -> None:
    """Print a line for each target, and how many were met."""
    met = 0
    with TemporaryDirectory() as name:
        folder = Path(name)
        os.environ.setdefault("WANRUN_HOME", str(folder / "home"))
        run(folder, *_KNOWN)
        for target in targets:
            taken, said = run(folder, "--target", f"{target:g}s")
            part = taken.seconds / target
            met += _EARLY <= part <= _LATE
            print(f"{target:6.1f} s: {taken.seconds:6.1f} s, {part:.3f} of it; {said}", flush=True)  # noqa: T201
    print(f"{met} of {len(targets)} end between {_EARLY} and {_LATE} of the target")  # noqa: T201


if __name__ == "__main__":
    main(*(map(float, sys.argv[1:]) if len(sys.argv) > 1 else TARGETS))
