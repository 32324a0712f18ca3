"""Finds plugins: entry points by group and name, loaded only when they are named.

Our own parts are registered the same way in ``pyproject.toml``, so every run goes through this seam.
``WANRUN_PLUGINS`` restricts third-party distributions to a comma-separated list; empty disables them.
Options stand behind a name, ``ddim:eta=0.5``: they are the keyword-only parameters of the plugin's function.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from wanrun import options, settings, signatures
from wanrun.errors import InvalidRequest, PluginError
from wanrun.signatures import Signature

GROUPS = (
    "text_encoders",
    "backends",
    "decoders",
    "samplers",
    "schedules",
    "step_caches",
    "noises",
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


def bind(group: str, text: str) -> Any:
    """The function that ``text`` names, with the options behind the name bound to it.

    Raises as :func:`load` and :func:`options_of` do.
    """
    given = options_of(group, text)
    function = load(group, options.parse(text).name)
    return partial(function, **given) if given else function


def options_of(group: str, text: str) -> dict[str, Any]:
    """The typed options that ``text`` gives to the plugin it names, which is not imported for that.

    Raises InvalidRequest for an unknown name, an option that the plugin does not take, lacks, or of another
    type or range; the message says what there is.
    """
    named = options.parse(text)
    found = signature(group, named.name)
    if found is None:
        if named.values or named.options:
            raise InvalidRequest(f"{named.name} takes no options")
        return {}
    given = {}
    for key, value in named.options:
        if key not in found.options or found.options[key].several:
            raise InvalidRequest(f"{named.name} does not take {key}; {_taken(found)}")
        given[key] = found.options[key].read(value)
    several = next((option for option in found.options.values() if option.several), None)
    if named.values:
        if several is None:
            raise InvalidRequest(f"{named.name} takes no list of values; {_taken(found)}")
        given[several.name] = tuple(several.read(value) for value in named.values)
    for option in found.options.values():
        if option.default is None and option.name not in given:
            raise InvalidRequest(f"{named.name} needs {option.name}: {_example(named.name, option)}")
    return given


def signature(group: str, name: str) -> Signature | None:
    """What the source of a plugin says about it, or None; InvalidRequest for an unknown name."""
    entries = _entries(group)
    if name not in entries:
        raise InvalidRequest(f"{name!r} is not known; there are {', '.join(sorted(entries)) or 'none'}")
    return signatures.read(entries[name])


def _taken(found: Signature) -> str:
    taken = [
        f"{option.name} ({option.expects}, else {option.default})"
        for option in found.options.values()
        if not option.several
    ]
    return f"it takes {', '.join(taken)}" if taken else "it takes no options"


def _example(name: str, option: signatures.Option) -> str:
    return f"write {name}:A,B,… with numbers" if option.several else f"write {name}:{option.name}=…"


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
