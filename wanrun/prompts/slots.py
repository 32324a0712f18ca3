"""The slots of a description, which of them a prompt fills, and what may be put into the others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from wanrun.prompts.structure import Structure

#: In the order in which a description names them.
SLOTS = ("attributes", "action", "relations", "setting", "light", "camera", "lens", "style", "mood")

_WORD = re.compile(r"[^\W_]+(?:[-'][^\W_]+)*")
_WHERE = frozenset(
    {"in", "on", "at", "inside", "under", "within", "through", "onto", "upon", "into", *"在里上中"}
)
#: A bundle's brief: "slots: setting, light", and "setting: on a table | on a chair".
_LINE = re.compile(r"[ \t]*(slots|" + "|".join(SLOTS) + r")[ \t]*:(.*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Slot:
    """What may be added, always or for prompts that have a word of a variant, and the words that fill it."""

    add: tuple[str, ...]
    variants: Mapping[str, tuple[str, ...]]
    said: frozenset[str]
    #: Whether the bundle says that there is nothing else.
    closed: bool = False


def slots(language: str, brief: str) -> dict[str, Slot]:
    """The slots that may be filled, in order: the curated ones, as far as the bundle's ``brief`` lets them.

    A line ``slots: setting, light`` in it names those that there are, none if it names none, and a line
    ``setting: on a table | on a chair`` gives a slot's own list.
    """
    curated = _curated()[language]
    allowed, own = _briefed(brief)
    chosen = {name: curated[name] for name in SLOTS if allowed is None or name in allowed}
    return {
        name: replace(slot, add=own[name], variants={}, closed=True) if name in own else slot
        for name, slot in chosen.items()
    }


def missing(structure: Structure, known: Mapping[str, Slot]) -> list[str]:
    """The slots of ``known`` of which the prompt says nothing; of an empty one, none."""
    said = _said(structure)
    return [name for name, slot in known.items() if not (said[name] or _mentions(structure, slot.said))]


def variant(structure: Structure, slot: Slot) -> tuple[str, ...]:
    """What may be added to this prompt: the first variant's list that it has a word of."""
    for name, phrases in slot.variants.items():
        if _mentions(structure, _variants()[name]):
            return phrases
    return slot.add


def _said(structure: Structure) -> dict[str, bool]:
    things = structure.things
    return {
        "attributes": not things or any(item.attributes for item in things),
        "action": not things or bool(structure.actions),
        "relations": len(things) < 2 or bool(structure.relations),
        "setting": bool(structure.places) or any(each.text.lower() in _WHERE for each in structure.relations),
        "camera": any(item.role == "camera" for item in structure.objects),
        **dict.fromkeys(("light", "lens", "style", "mood"), False),
    }


def _mentions(structure: Structure, listed: frozenset[str]) -> bool:
    if structure.language == "zh":
        return any(word in structure.text for word in listed)
    return any(word in listed for word in _WORD.findall(structure.text.lower()))


def _briefed(brief: str) -> tuple[set[str] | None, dict[str, tuple[str, ...]]]:
    allowed: set[str] | None = None
    own: dict[str, tuple[str, ...]] = {}
    for line in brief.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        name, value = match[1].lower(), match[2]
        if name == "slots":
            allowed = {word.lower() for word in _WORD.findall(value)}
        elif phrases := tuple(phrase.strip() for phrase in value.split("|") if phrase.strip()):
            own[name] = phrases
    return allowed, own


@cache
def _curated() -> dict[str, dict[str, Slot]]:
    lists = _lists()
    return {
        language: {name: _slot(entry) for name, entry in lists[language].items()} for language in ("en", "zh")
    }


def _slot(entry: Mapping[str, Any]) -> Slot:
    variants = {name: tuple(phrases) for name, phrases in entry.items() if name not in ("add", "said")}
    return Slot(tuple(entry["add"]), variants, frozenset(entry["said"].split()))


@cache
def _variants() -> dict[str, frozenset[str]]:
    return {name: frozenset(words.split()) for name, words in _lists()["variants"].items()}


@cache
def _lists() -> dict[str, Any]:
    lists: dict[str, Any] = yaml.safe_load(files(__package__).joinpath("slots.yaml").read_text("utf-8"))
    return lists
