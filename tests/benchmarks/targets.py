"""Whether runs with ``--target`` end when they should: seconds of real commands, each a process.

Seconds are those on the wall, or the processor's if they are fewer, as in ``tests.benchmarks.plan``: where
other programs run only these compare. With one thread they are the wall's on an idle machine.
A plain run of each shape makes it known before.

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
_ASKED = ("run", "wan-toy", _PROMPT, "-o", "out.mp4")
#: Size and frames of what is to be done within so many seconds: small clips end with a thousand steps.
_SHAPES = {10.0: ("64x64", "17"), 40.0: ("128x128", "17"), 120.0: ("128x128", "33")}
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
        known: set[tuple[str, str]] = set()
        for target in targets:
            size, frames = next(shape for most, shape in _SHAPES.items() if target <= most)
            shaped = ("--size", size, "--frames", frames)
            if (size, frames) not in known:
                run(folder, *shaped, *_KNOWN)
            known.add((size, frames))
            try:
                taken, said = run(folder, *shaped, "--target", f"{target:g}s")
            except SystemExit as refused:
                print(f"{target:6.1f} s: {refused}".strip(), flush=True)  # noqa: T201
                continue
            part = taken.seconds / target
            met += _EARLY <= part <= _LATE
            print(f"{target:6.1f} s: {taken.seconds:6.1f} s, {part:.3f} of it; {said}", flush=True)  # noqa: T201
    print(f"{met} of {len(targets)} end between {_EARLY} and {_LATE} of the target")  # noqa: T201


if __name__ == "__main__":
    main(*(map(float, sys.argv[1:]) if len(sys.argv) > 1 else TARGETS))
