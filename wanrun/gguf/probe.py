"""Measures how fast this machine multiplies by each type of weight, once, and remembers it on disk."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
import torch.nn.functional as F

from wanrun.gguf import product
from wanrun.gguf.dequantize import dequantize
from wanrun.gguf.policy import GGML, PER_USE, RESIDENT, Rates
from wanrun.gguf.types import tensor_type

#: A small matrix of a transformer, and as many tokens as a short clip has.
_OUT, _IN, _TOKENS = 768, 1536, 768
_ROUNDS = 2


def measure(kind: str, dtype: torch.dtype) -> dict[str, float]:
    """GF/s of one core by way, for weights of ``kind`` and activations of ``dtype``; takes about 80 ms.

    Time is the thread's own, so that a busy machine measures what an idle one would.
    """
    # the speed of every way is the same for all values, and zeros are valid blocks of every type
    packed = torch.zeros(tensor_type(kind).nbytes(_OUT * _IN), dtype=torch.uint8)
    shape, inputs = (_OUT, _IN), torch.zeros(_TOKENS, _IN, dtype=dtype)
    weight = dequantize(kind, packed, shape, dtype)
    ways: dict[str, Callable[[], object]] = {
        RESIDENT: lambda: F.linear(inputs, weight),
        PER_USE: lambda: F.linear(inputs, dequantize(kind, packed, shape, dtype)),
    }
    if product.problem(kind, packed, shape) is None:
        ways[GGML] = lambda: product.multiply(kind, packed, shape, inputs.float()).to(dtype)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            return {way: _rate(work) for way, work in ways.items()}
    finally:
        torch.set_num_threads(threads)


def _rate(work: Callable[[], object]) -> float:
    """Rounded, as it is written down."""
    work()  # warms the caches and lets oneDNN make its kernel
    seconds = []
    for _ in range(_ROUNDS):
        start = time.thread_time()
        work()
        seconds.append(time.thread_time() - start)
    return round(2e-9 * _OUT * _IN * _TOKENS / max(min(seconds), 1e-6), 1)


class Memory:
    """The rates measured on this machine, kept in ``folder`` as ``linear.json``.

    A file that is damaged, or of another machine or library, is as good as none, and one that cannot be
    written only costs the next process its measurements. Any number of processes may share it.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "linear.json"
        self._machine = _machine()
        self._known = _read(self._file, self._machine)

    @property
    def known(self) -> Mapping[tuple[str, str], Rates]:
        """What is remembered, by type and dtype."""
        return {(kind, dtype): rates for name, rates in self._known.items() for kind, dtype in [name.split()]}

    def rates(self, kind: str, dtype: torch.dtype) -> Rates:
        """As ``measure``, which is asked only for what is not known yet."""
        name = f"{kind} {str(dtype).removeprefix('torch.')}"
        if name not in self._known:
            fresh = measure(kind, dtype)
            # another process may have measured it meanwhile: the first answer stands for all
            self._known = {name: fresh} | self._known | _read(self._file, self._machine)
            with suppress(OSError):
                _write(self._file, {"machine": self._machine, "rates": self._known})
        return self._known[name]


def _machine() -> str:
    """What rates depend on."""
    features = torch.cpu.get_capabilities()
    flags = sorted(name for name, value in features.items() if value is True)
    try:
        ggml = version("llama-cpp-python")
    except PackageNotFoundError:
        ggml = "none"
    return f"{features.get('cpu_name', '')}; {' '.join(flags)}; torch {torch.__version__}; ggml of {ggml}"


def _read(file: Path, machine: str) -> dict[str, dict[str, float]]:
    try:
        data = json.loads(file.read_bytes())
        if data["machine"] != machine:
            return {}
        return {name: _valid(name, rates) for name, rates in data["rates"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}


def _valid(name: str, rates: dict[str, float]) -> dict[str, float]:
    """The rates of a file; ValueError, KeyError or TypeError for any that ``measure`` would not give."""
    _kind, _dtype = name.split()
    if not {RESIDENT, PER_USE} <= rates.keys() <= {RESIDENT, PER_USE, GGML}:
        raise KeyError(name)
    if not all(isinstance(rate, float) and 0 < rate < 1e9 for rate in rates.values()):
        raise ValueError(name)
    return rates


def _write(file: Path, data: Mapping[str, object]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, fresh = tempfile.mkstemp(dir=file.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            json.dump(data, opened, indent=1)
        Path(fresh).replace(file)
    except BaseException:
        Path(fresh).unlink(missing_ok=True)
        raise
