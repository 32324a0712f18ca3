"""Every environment variable and config key, declared once.

A value comes from the environment (``WANRUN_HOME``), else from ``$WANRUN_HOME/config.yaml`` (``home`` is the
environment's alone), else from the default here.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wanrun.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its config key (the variable is ``WANRUN_`` and the key in capitals) and what it does."""

    key: str
    default: str
    help: str
    #: Whether its value is nobody else's to see.
    secret: bool = False

    @property
    def variable(self) -> str:
        return "WANRUN_" + self.key.upper()


SETTINGS = (
    Setting("home", "~/.wanrun", "where bundles, caches and config.yaml live"),
    Setting("device", "auto", "auto, cpu, cuda, cuda:N, mps or xpu"),
    Setting("threads", "0", "CPU threads, 0 for one per core"),
    Setting("memory", "free", "memory that a run may take, such as 8GB; free for what no program uses"),
    Setting(
        "compile", "off", "on: compile the transformer for an accelerator; it starts later and is faster"
    ),
    Setting("cache", "1GB", "size limit of the cache of encoded prompts; 0 for none"),
    Setting(
        "plugins", "*", "comma-separated distributions whose plugins may load; empty for none, * for all"
    ),
    Setting("lpips", "", "safetensors file of LPIPS's weights, for 'wanrun evaluate --suite fidelity'"),
    Setting(
        "loras", "", "folder of the LoRA files that may be asked for by name; loras in WANRUN_HOME if empty"
    ),
    Setting("host", "127.0.0.1:11435", "address that 'wanrun serve' listens on and other commands ask"),
    Setting("api_key", "", "key that every request to the server must bring", secret=True),
    Setting("hosts", "", "comma-separated names that the server is called by, besides localhost"),
    Setting("origins", "", "comma-separated origins of other web pages that may use the server; * for all"),
    Setting("private", "auto", "on, off: whether to pull from private networks; auto: not for the server"),
    Setting("keep_alive", "5m", "time that a model stays loaded without work; negative for ever"),
    Setting("max_loaded", "1", "models that stay loaded at the same time"),
    Setting("max_queue", "64", "jobs that may wait; the next one is refused"),
    Setting("max_pixels", "500000000", "width x height x frames of the largest video that the server makes"),
    Setting("max_rate", "1000", "requests a second that one address may make, and ten times that at once"),
    Setting("expire", "720h", "time after which finished jobs are deleted with their videos"),
    Setting("outputs", "20GB", "bytes that the server's videos may take; the oldest are deleted"),
)
_BY_KEY = {setting.key: setting for setting in SETTINGS}


def home() -> Path:
    """The folder that holds the store and the caches."""
    return Path(os.environ.get("WANRUN_HOME") or _BY_KEY["home"].default).expanduser()


def _config() -> dict[str, Any]:
    path = home() / "config.yaml"
    if not path.is_file():
        return {}
    import yaml  # here, so that commands without a config file start without it

    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path} is not valid YAML: {error}") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise InvalidRequest(f"{path} must hold keys and values, not {type(loaded).__name__}")
    unknown = [str(key) for key in loaded if key not in _BY_KEY or key == "home"]
    if unknown:
        raise InvalidRequest(f"{path} has unknown keys: {', '.join(unknown)}")
    return loaded


def get(key: str) -> str:
    """The value of ``key`` as text."""
    setting = _BY_KEY[key]
    if key == "home":
        return str(home())
    value = os.environ.get(setting.variable)
    if value is None:
        value = _config().get(key, setting.default)
    return str(value).strip()


def size(key: str) -> int:
    """The bytes that ``key`` allows, as ``parse_size`` reads them."""
    return parse_size(get(key), _BY_KEY[key].variable)


def duration(key: str) -> float:
    """The seconds of ``key``: a Go duration such as 1h30m, or a number of seconds; negative for ever."""
    value, name = get(key), _BY_KEY[key].variable
    if re.fullmatch(r"-?[0-9]{1,12}", value):
        return float(value)
    return parse_duration(value, name)


def number(key: str) -> int:
    """The whole number of ``key``, at least 1."""
    value = get(key)
    if not re.fullmatch(r"[0-9]{1,15}", value) or not int(value):
        raise InvalidRequest(f"{_BY_KEY[key].variable} must be a whole number above 0, not {value[:60]!r}")
    return int(value)


def switch(key: str) -> bool:
    """Whether ``key`` is on."""
    value = get(key).lower()
    if value not in ("on", "off"):
        raise InvalidRequest(f"{_BY_KEY[key].variable} must be on or off, not {value[:60]!r}")
    return value == "on"


def private() -> bool:
    """Whether models may come from and go to addresses of private networks, this machine's among them."""
    return get("private").lower() == "auto" or switch("private")


def words(key: str) -> tuple[str, ...]:
    """The parts of ``key`` between commas."""
    return tuple(word for part in get(key).split(",") if (word := part.strip()))


def address() -> tuple[str, int]:
    """Where the server listens: host and port, from ``[http://]host[:port]``."""
    value = get("host")
    match = re.fullmatch(r"(?:http://)?(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]*)(?::([0-9]{1,5}))?/?", value)
    if match is None or int(match[2] or 0) > 65_535:
        raise InvalidRequest(f"WANRUN_HOST must be HOST:PORT, such as 127.0.0.1:11435, not {value[:60]!r}")
    return match[1].strip("[]") or "127.0.0.1", int(match[2] or 11_435)


def loras() -> Path:
    """The folder whose LoRA files may be asked for by their names alone."""
    return Path(get("loras")).expanduser() if get("loras") else home() / "loras"


def memory() -> int | None:
    """Bytes that a run may take; None for all that is free."""
    return None if get("memory").lower() == "free" else size("memory")


def parse_size(text: str, name: str) -> int:
    """The bytes of ``text``: a number, or ``512MB``, ``8GB`` (decimal), ``4GiB`` (binary).

    Raises InvalidRequest, which calls the value ``name``.
    """
    match = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?)\s*(?:([kmgt])(i?)b?|b)?", text.strip(), re.IGNORECASE)
    if match is None:
        raise InvalidRequest(f"{name} must be a size such as 512MB or 8GB, not {text[:60]!r}")
    number, unit, binary = match.groups()
    power = " kmgt".index(unit.lower()) if unit else 0
    return int(float(number) * (1024 if binary else 1000) ** power)


_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)"


def parse_duration(text: str, name: str) -> float:
    """The seconds of a duration as Go writes it: ``300s``, ``1h30m``, ``-1m``, ``0``.

    Raises InvalidRequest, which calls the value ``name``.
    """
    match = re.fullmatch(rf"([-+]?)(0|(?:{_PART})+)", text) if len(text) < 100 else None
    if match is None:
        raise InvalidRequest(f"{name} must be a duration such as 30s, 10m or 1h30m, not {text[:60]!r}")
    seconds = sum(float(amount) * _UNITS_S[unit] for amount, unit in re.findall(_PART, match[2]))
    return -seconds if match[1] == "-" else seconds


def compiled() -> bool:
    """Whether transformers are compiled for accelerators."""
    return switch("compile")


def plugins() -> set[str] | None:
    """Third-party distributions that may load; None for all."""
    value = get("plugins")
    return None if value == "*" else {name.strip() for name in value.split(",") if name.strip()}


def threads() -> int:
    """CPU threads to compute with, at least 1."""
    value = get("threads")
    if not value.isdecimal():
        raise InvalidRequest(f"WANRUN_THREADS must be a whole number, not {value!r}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return int(value) or cores or 1
