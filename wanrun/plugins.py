"""Finds plugins: entry points by group and name, loaded only when they are named.

Our own parts are registered the same way in ``pyproject.toml``, so every run goes through this seam.
``WANRUN_PLUGINS`` restricts third-party distributions to a comma-separated list; empty disables them.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from wanrun import settings
from wanrun.errors import PluginError

GROUPS = (
    "text_encoders",
    "backends",
    "decoders",
    "samplers",
    "schedules",
    "step_caches",
    "sources",
    "expanders",
)


@dataclass(frozen=True, slots=True)
class Plugin:
    """One entry of ``wanrun plugins``; ``problem`` says why it cannot be used."""

    group: str
    name: str
    target: str
    distribution: str
    problem: str | None = None


def _distribution(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "unknown"


def _entries(group: str) -> dict[str, EntryPoint]:
    """Entry points of one group by name; ours win over a third party's of the same name."""
    allowed = settings.plugins()
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=f"wanrun.{group}"):
        ours = _distribution(entry) == "wanrun"
        if ours or ((allowed is None or _distribution(entry) in allowed) and entry.name not in found):
            found[entry.name] = entry
    return found


def names(group: str) -> list[str]:
    """Names that can be asked for in ``group``, sorted."""
    return sorted(_entries(group))


def load(group: str, name: str) -> Any:
    """The object registered as ``name`` in ``group``.

    Raises PluginError when nothing has that name (with the nearest one) or when it does not import.
    """
    entries = _entries(group)
    if name not in entries:
        near = difflib.get_close_matches(name, entries, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(sorted(entries)) or 'none'}"
        raise PluginError(f"no plugin {name!r} in {group}: {hint}")
    try:
        return entries[name].load()
    except Exception as error:  # a third party's module may raise anything at all
        raise PluginError(
            f"plugin {name!r} in {group} does not load ({entries[name].value}): {error}"
        ) from error


def every() -> list[Plugin]:
    """All plugins of all groups with the reason of each that does not load."""
    plugins = []
    for group in GROUPS:
        for name, entry in sorted(_entries(group).items()):
            problem = None
            try:
                load(group, name)
            except PluginError as error:
                problem = str(error)
            plugins.append(Plugin(group, name, entry.value, _distribution(entry), problem))
    return plugins
