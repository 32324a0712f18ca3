"""What a prompt says: its objects with their attributes, what they do, and how they stand to each other.

Positions are characters of ``Structure.text``, from ``start`` up to and without ``end``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Object:
    """A noun with what belongs to it."""

    start: int
    end: int
    #: As it is written, determiner included: "two small red balls".
    text: str
    #: The head as it is written: "balls".
    noun: str
    #: Adjectives and nouns before the head, in order: "small", "red".
    attributes: tuple[str, ...]
    #: Those attributes that are colours.
    colours: tuple[str, ...]
    #: How many, where it is said; 1 for a singular, None for "some balls" and what has no number.
    count: int | None
    #: What the video is about, where that is, or how it is filmed.
    role: Literal["thing", "place", "camera"]


@dataclass(frozen=True, slots=True)
class Action:
    """What objects do; ``subjects`` are indices of ``Structure.objects``, empty when nobody is named."""

    start: int
    end: int
    #: With its adverbs: "bouncing up and down".
    text: str
    #: The verb as it is written: "bouncing".
    verb: str
    subjects: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """How one object stands to another; both are indices of ``Structure.objects``."""

    start: int
    end: int
    #: As it is written: "to the left of".
    text: str
    subject: int
    object: int


@dataclass(frozen=True, slots=True)
class Structure:
    """A prompt as it was read. Words that fit no pattern are in none of its parts."""

    text: str
    language: Literal["en", "zh"]
    objects: tuple[Object, ...] = ()
    actions: tuple[Action, ...] = ()
    relations: tuple[Relation, ...] = ()

    @property
    def things(self) -> tuple[Object, ...]:
        """The objects that the video is about."""
        return tuple(item for item in self.objects if item.role == "thing")

    @property
    def places(self) -> tuple[Object, ...]:
        """The objects that say where it happens."""
        return tuple(item for item in self.objects if item.role == "place")

    def json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)
