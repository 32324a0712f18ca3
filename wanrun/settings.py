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


def compiled() -> bool:
    """Whether transformers are compiled for accelerators."""
    value = get("compile").lower()
    if value not in ("on", "off"):
        raise InvalidRequest(f"WANRUN_COMPILE must be on or off, not {value[:60]!r}")
    return value == "on"


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
