"""Loads the word lists that the readers of prompts know."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

_VOWELS = "aeiou"


@dataclass(frozen=True, slots=True)
class English:
    """English words by class; ``forms`` gives the base form of each inflected verb."""

    determiners: frozenset[str]
    plural_determiners: frozenset[str]
    numbers: dict[str, int]
    conjunctions: frozenset[str]
    pronouns: frozenset[str]
    auxiliaries: frozenset[str]
    adverbs: frozenset[str]
    #: Each a tuple of words, the longest first.
    relations: tuple[tuple[str, ...], ...]
    prepositions: frozenset[str]
    place_relations: frozenset[str]
    #: What they bring in belongs to their subject, and is nobody of its own: "a man in a red coat".
    owned_relations: frozenset[str]
    colours: frozenset[str]
    adjectives: frozenset[str]
    nouns: frozenset[str]
    places: frozenset[str]
    camera: frozenset[str]
    media: frozenset[str]
    measures: frozenset[str]
    plurals: frozenset[str]
    manners: tuple[tuple[str, ...], ...]
    verbs: frozenset[str]
    forms: dict[str, str]
    negations: frozenset[str]


@dataclass(frozen=True, slots=True)
class Chinese:
    """Chinese words with their kinds."""

    kinds: dict[str, Any]
    colours: frozenset[str]
    numbers: dict[str, int | None]


@cache
def chinese() -> Chinese:
    """The lists of ``chinese.yaml``."""
    lists = _read("chinese.yaml")
    kinds = {"conjunctions": "function", "particle": "particle", "camera": "camera"}
    found = {
        word: kinds.get(name, name.removesuffix("s"))
        for name, value in lists.items()
        for word in (value.split() if isinstance(value, str) else value)
    }
    return Chinese(found, frozenset(lists["colours"].split()), lists["numbers"])


@cache
def english() -> English:
    """The lists of ``english.yaml``."""
    lists = _read("english.yaml")
    sets = {
        name: frozenset(value.split())
        for name, value in lists.items()
        if isinstance(value, str) and name not in ("relations", "manners", "irregular", "owned_relations")
    }
    relations = _phrases(lists["relations"])
    return English(
        **sets,
        numbers=lists["numbers"],
        relations=relations,
        prepositions=frozenset(each[0] for each in relations),
        owned_relations=frozenset(" ".join(each) for each in _phrases(lists["owned_relations"])),
        manners=_phrases(lists["manners"]),
        forms=_forms(sets["verbs"], lists["irregular"]),
    )


def _phrases(text: str) -> tuple[tuple[str, ...], ...]:
    return tuple(sorted((tuple(each.split()) for each in text.split("|")), key=len, reverse=True))


def _forms(verbs: frozenset[str], irregular: str) -> dict[str, str]:
    """Every inflected form of the verbs, with its base."""
    forms: dict[str, str] = {}
    for base in sorted(verbs):
        for form in _inflected(base):
            forms.setdefault(form, base)
    return forms | dict(pair.split(":") for pair in irregular.split())


def _inflected(base: str) -> list[str]:
    """-s, -ing and -ed by the rules of spelling, with and without a doubled consonant."""
    third = base + ("es" if base.endswith(("s", "sh", "ch", "x", "z", "o")) else "s")
    if base.endswith("y") and base[-2] not in _VOWELS:
        return [base[:-1] + "ies", base + "ing", base[:-1] + "ied"]
    if base.endswith("e") and not base.endswith("ee"):
        return [third, base[:-1] + "ing", base + "d"]
    doubled = base + base[-1]
    return [third, base + "ing", base + "ed", doubled + "ing", doubled + "ed"]


def _read(name: str) -> dict[str, Any]:
    lists: dict[str, Any] = yaml.safe_load(files(__package__).joinpath(name).read_text("utf-8"))
    return lists
