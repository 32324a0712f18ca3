"""What this machine does in a second and what the libraries weigh: measured once, kept in the cache.

The numbers lie in ``$WANRUN_HOME/cache`` beside what they depend on: the processor, the number of
threads, the device and the versions of the libraries. When one of these has changed, or the file is damaged,
they are measured again.
"""

from __future__ import annotations

import json
import math
import os
import platform
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path

from wanrun import settings
from wanrun.errors import StoreError
from wanrun.runtime.shapes import ITEM_BYTES
from wanrun.store.durable import write_file

#: Raised when what is measured, or how, has changed.
_FORMAT = 2
_LIBRARIES = ("wanrun", "torch", "llama-cpp-python")


@dataclass(frozen=True, slots=True)
class Rates:
    """One precision's speed: operations a second in ``linear``, ``attention`` and the decoders' convolutions.

    ``block_s`` is what a transformer block costs however few its tokens, ``element_s`` what each of its
    activations costs beside the products. ``convolution`` is by channels, ``tiny`` the tiny decoder's;
    ``prepare_s`` is what a convolution's first call costs.
    """

    linear: float
    attention: float
    block_s: float
    element_s: float
    convolution: Mapping[str, float]
    tiny: float
    prepare_s: float


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine. ``precision`` is what ``auto`` stands for on ``device``.

    ``import_bytes`` and ``import_s`` are the libraries', ``network_bytes`` and ``network_s`` those with what
    the first network brings in; ``encoder_bytes`` and ``encoder_s`` are an empty text encoder's. ``unpack``
    is elements a second by storage type, ``matrix_s`` what one call of it costs; ``encode`` operations a
    second by storage type; ``write`` pixels a second; ``device_bytes`` the accelerator's memory and ``link``
    the bytes a second that it is sent, 0 for none.
    """

    device: str
    precision: str
    import_bytes: float
    import_s: float
    network_bytes: float
    network_s: float
    encoder_bytes: float
    encoder_s: float
    rates: Mapping[str, Rates]
    unpack: Mapping[str, float]
    matrix_s: float
    encode: Mapping[str, float]
    write: float
    device_bytes: float
    link: float

    def pick(self, precision: str) -> str:
        """The arithmetic that ``precision`` stands for here."""
        return self.precision if precision == "auto" else precision


def fingerprint(device: str) -> dict[str, str]:
    """What the numbers depend on."""
    return {
        "format": str(_FORMAT),
        "device": device,
        "processor": _processor(),
        "threads": os.environ.get("OMP_NUM_THREADS") or str(settings.threads()),
        **{name: version(name) for name in _LIBRARIES},
    }


def path(device: str) -> Path:
    """Where the numbers for ``device`` lie."""
    return settings.home() / "cache" / f"machine-{re.sub('[^a-z0-9]+', '-', device.lower())[:32]}.json"


def save(machine: Machine, device: str) -> None:
    """Keep the numbers; a home that cannot be written costs only that they are measured again."""
    described = {"of": fingerprint(device), "measured": asdict(machine)}
    with suppress(StoreError, OSError):
        write_file(path(device), json.dumps(described, indent=1).encode())


def load(device: str) -> Machine | None:
    """The kept numbers; None when there are none for this machine as it is now, or they are damaged."""
    try:
        found = json.loads(path(device).read_text("utf-8"))
        if found["of"] != fingerprint(device):
            return None
        return parse(found["measured"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def parse(values: Mapping[str, object]) -> Machine:
    """The numbers that were written down. ValueError, TypeError or KeyError unless all of them make sense."""
    if set(values) != {field.name for field in fields(Machine)}:
        raise ValueError("other fields than this version's")
    rates = _mapping(values["rates"])
    if set(rates) != set(ITEM_BYTES):
        raise ValueError("other precisions than this version's")
    if values["precision"] not in ITEM_BYTES or not isinstance(values["device"], str):
        raise ValueError("an unknown precision or device")
    if not values["write"] or not all(_mapping(each)[name] for each in rates.values() for name in _DIVISORS):
        raise ValueError("a speed of zero")
    if values["device_bytes"] and not values["link"]:
        raise ValueError("a device that is sent nothing")
    return Machine(
        device=str(values["device"]),
        precision=str(values["precision"]),
        import_bytes=_number(values["import_bytes"]),
        import_s=_number(values["import_s"]),
        network_bytes=_number(values["network_bytes"]),
        network_s=_number(values["network_s"]),
        encoder_bytes=_number(values["encoder_bytes"]),
        encoder_s=_number(values["encoder_s"]),
        rates={name: _rates(_mapping(each)) for name, each in rates.items()},
        unpack=_numbers(values["unpack"]),
        matrix_s=_number(values["matrix_s"]),
        encode=_numbers(values["encode"]),
        write=_number(values["write"]),
        device_bytes=_number(values["device_bytes"]),
        link=_number(values["link"]),
    )


_DIVISORS = ("linear", "attention", "tiny")
_SPEEDS = ("linear", "attention", "block_s", "element_s", "tiny", "prepare_s")


def _rates(values: Mapping[str, object]) -> Rates:
    numbers = {name: _number(values[name]) for name in _SPEEDS}
    return Rates(**numbers, convolution=_numbers(values["convolution"]))


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise TypeError("not an object")
    return value


def _numbers(value: object) -> dict[str, float]:
    """Speeds by name: at least one, none of them zero."""
    found = {str(name): _number(each) for name, each in _mapping(value).items()}
    if not found or not all(found.values()):
        raise ValueError("a speed is missing")
    return found


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{value!r:.40} is no amount")
    return float(value)


def _processor() -> str:
    """The processor's name and how many there are."""
    name = platform.processor() or platform.machine()
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.lower().startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{name}, {os.cpu_count()}"
