"""What runs took, so that the next one of the same shape is forecast from measurements instead of shapes.

Seconds are those on the wall, or on a CPU the processor's if they are fewer: what else the machine did is no
property of the run. They lie in ``$WANRUN_HOME/cache/timings`` and count as long as the machine's numbers.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from wanrun import settings
from wanrun.errors import StoreError
from wanrun.runtime import machine
from wanrun.runtime.quality import identify
from wanrun.store.durable import make_folder, write_file
from wanrun.types import Bundle, GenerationRequest, Progress

#: Steps that a denoising must have for its time to be divided into theirs and the rest.
LEAST_STEPS = 3


@dataclass(frozen=True, slots=True)
class Taken:
    """Seconds of a run: of loading the experts, of one of their forwards, and of decoding.

    A run that did not decode leaves that to the plan.
    """

    load: float
    forward: float
    decode: float | None = None


class Stopwatch:
    """A Progress that notes when each step was done, and passes on what it is told.

    With ``on_cpu`` seconds are the processor's where those are fewer.
    """

    def __init__(self, progress: Progress, on_cpu: bool) -> None:
        self._progress, self._on_cpu = progress, on_cpu
        self._marks: dict[str, list[tuple[float, float]]] = {}

    def __call__(self, phase: str, done: int, total: int) -> None:
        self._marks.setdefault(phase, []).append((time.perf_counter(), time.process_time()))
        self._progress(phase, done, total)

    def lasted(self, phase: str) -> float:
        """Seconds between the phase's first mark and its last."""
        return sum(self._between(phase))

    def taken(self, forwards: int) -> Taken | None:
        """What was seen, if enough was: of a denoising of so many ``forwards``, and a decoding behind it."""
        steps = self._between("denoise")
        if len(steps) < LEAST_STEPS:
            return None
        # the first step has the first expert's loading in it, and one has the second's
        usual = median(steps[1:])
        load = max(0.0, sum(steps) - usual * len(steps))
        decode = self.lasted("decode") if "decode" in self._marks else None
        return Taken(load, usual * len(steps) / forwards, decode)

    def _between(self, phase: str) -> list[float]:
        """Seconds between the phase's marks, one after the other."""
        marks = self._marks.get(phase, [])
        return [
            min(after[0] - before[0], after[1] - before[1]) if self._on_cpu else after[0] - before[0]
            for before, after in pairwise(marks)
        ]


def find(bundle: Bundle, request: GenerationRequest, device: str) -> Taken | None:
    """What runs like ``request`` took, whatever their number of steps; None if there was none."""
    try:
        found = json.loads(_path(bundle, request, device).read_text("utf-8"))
        if found["of"] != machine.fingerprint(device):
            return None
        taken = Taken(**found["taken"])
        numbers = [taken.load, taken.forward, 0.0 if taken.decode is None else taken.decode]
        return taken if all(map(_is_time, numbers)) else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def keep(bundle: Bundle, request: GenerationRequest, device: str, taken: Taken) -> None:
    """Remember it, evened out with what was known; a home that cannot be written costs only that."""
    known = find(bundle, request, device)
    if known is not None:
        load, forward = (known.load + taken.load) / 2, (known.forward + taken.forward) / 2
        taken = Taken(load, forward, _even(known.decode, taken.decode))
    path = _path(bundle, request, device)
    described = {"of": machine.fingerprint(device), "taken": asdict(taken)}
    with suppress(StoreError, OSError):
        make_folder(path.parent)
        write_file(path, json.dumps(described).encode())


def _path(bundle: Bundle, request: GenerationRequest, device: str) -> Path:
    """Where it lies: by all that decides how long a step and a decoding take."""
    loras = [[lora.role, lora.digest] for lora in request.lora]
    branches = [scale != 1 for scale in (request.guidance_high, request.guidance_low)]
    branches.append(request.compose > 0)
    shape: Sequence[object] = (request.latent_shape, request.precision, request.decoder, request.cross_frame)
    key = json.dumps([identify(bundle), loras, branches, shape, request.flicker > 0, device])
    return settings.home() / "cache" / "timings" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def _even(known: float | None, found: float | None) -> float | None:
    if known is None or found is None:
        return known if found is None else found
    return (known + found) / 2


def _is_time(number: object) -> bool:
    return type(number) is float and math.isfinite(number) and number >= 0
