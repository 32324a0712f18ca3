"""What every fuzzer shares: limits of time and memory for one input, the loop over inputs, the command."""

from __future__ import annotations

import argparse
import random
import resource
import signal
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import TypeVar

SPARE_BYTES = 64 << 20
Parsed = TypeVar("Parsed")


class Failure(Exception):
    """A reader broke its promise."""


def limited(read: Callable[[], Parsed], size: int) -> Parsed:
    """``read()`` in at most a second of CPU time and ``size`` plus 64 MiB more address space."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGVTALRM, _too_slow)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + size + SPARE_BYTES, hard))
    signal.setitimer(signal.ITIMER_VIRTUAL, 1.0)
    try:
        return read()
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGVTALRM, before)


def _too_slow(number: int, frame: FrameType | None) -> None:
    raise TimeoutError("one input took more than a second")


def mixed(
    rng: random.Random, systematic: list[bytes], share: int, mutated: Callable[[random.Random], bytes]
) -> Iterable[bytes]:
    """Inputs without end: of the systematic ones at most ``share``, drawn at random, then mutated ones."""
    yield from rng.sample(systematic, min(len(systematic), share))
    while True:
        yield mutated(rng)


def command(
    what: str | None,
    inputs: Callable[[random.Random, int], Iterable[bytes]],
    check: Callable[[bytes], str],
    count: int,
) -> int:
    """Parse the command line, check that many inputs, print how many were refused and parsed."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--count", type=int, default=count)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    results: Counter[str] = Counter()
    for index, data in enumerate(islice(inputs(random.Random(options.seed), options.count), options.count)):
        try:
            results[check(data)] += 1
        except Failure as failure:
            print(f"input {index} of seed {options.seed}: {failure}\n{data[:4000]!r}")  # noqa: T201
            return 1
    print(f"{options.count} inputs: {results['refused']} refused, {results['parsed']} parsed")  # noqa: T201
    return 0
