"""Reads a Chinese prompt by lists of words, of which the longest that fits is taken.

Chinese is written without spaces. What is in no list lies between words that are: that is taken for a noun.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from wanrun.prompts.lexicon import Chinese, chinese
from wanrun.prompts.structure import Action, Object, Relation, Structure

_LONGEST = 5
_SENTENCE = "。！？；!?;\n"
Kind = Literal[
    "colour", "number", "classifier", "adjective", "verb", "relation", "function", "particle", "mark",
    "place", "camera", "noun",
]  # fmt: skip
_NOUNS: tuple[Kind, ...] = ("noun", "place", "camera")
_BEFORE_NOUN: tuple[Kind, ...] = ("colour", "adjective")
_JOINING = ("和", "与", "跟", "及", "以及")


@dataclass(frozen=True, slots=True)
class Word:
    """One word where it stands."""

    start: int
    end: int
    text: str
    kind: Kind


def read_chinese(text: str) -> Structure:
    """The objects, actions and relations of ``text``."""
    return _Reader(text, chinese()).read()


def words(text: str, lexicon: Chinese) -> list[Word]:
    """``text`` cut into listed words, marks, and the runs between them."""
    found: list[Word] = []
    index = start = 0
    while index < len(text):
        length, kind = _longest(text, index, lexicon)
        if kind == "classifier" and (start < index or not found or found[-1].kind != "number"):
            length = 0  # 块 of 方块
        if not length:
            index += 1
            continue
        if start < index:
            found.append(Word(start, index, text[start:index], "noun"))
        if not text[index].isspace():
            found.append(Word(index, index + length, text[index : index + length], kind))
        index += length
        start = index
    if start < len(text):
        found.append(Word(start, len(text), text[start:], "noun"))
    return found


def _longest(text: str, index: int, lexicon: Chinese) -> tuple[int, Kind]:
    if not text[index].isalnum():
        return 1, "mark"
    for length in range(min(_LONGEST, len(text) - index), 0, -1):
        kind = lexicon.kinds.get(text[index : index + length])
        if kind is not None:
            return length, kind
    return 0, "noun"


@dataclass(frozen=True, slots=True)
class _Pending:
    """What has been read of an object whose noun is still to come."""

    start: int | None = None
    count: int | None = 1
    attributes: tuple[str, ...] = ()

    def joined(self, word: Word) -> _Pending:
        """With one more attribute."""
        start = word.start if self.start is None else self.start
        return _Pending(start, self.count, (*self.attributes, word.text))


class _Reader:
    """The words of one prompt, and what has been read of them."""

    def __init__(self, text: str, lexicon: Chinese) -> None:
        self._text, self._lexicon = text, lexicon
        self._words = words(text, lexicon)
        self._objects: list[Object] = []
        self._actions: list[Action] = []
        self._relations: list[Relation] = []
        #: The last object and those that 和 joins to it; who does what comes next.
        self._group: list[int] = []
        self._joined = False
        #: After 在: its word, and who is there.
        self._there: tuple[Word, int] | None = None
        #: 一个穿着红色外套的男人: what is said of the one to come, its verb, and the verb's objects.
        self._outer: tuple[_Pending, Word, list[int]] | None = None

    def read(self) -> Structure:
        pending = _Pending()
        for index, word in enumerate(self._words):
            following = self._words[index + 1].kind if index + 1 < len(self._words) else "mark"
            pending = self._step(word, following, pending)
        return Structure(self._text, "zh", tuple(self._objects), tuple(self._actions), tuple(self._relations))

    def _step(self, word: Word, following: Kind, pending: _Pending) -> _Pending:
        if word.kind == "number":
            return _Pending(word.start, self._lexicon.numbers[word.text])
        if word.kind in _BEFORE_NOUN and following in (*_BEFORE_NOUN, *_NOUNS, "particle"):
            return pending.joined(word)
        if word.kind in _NOUNS and following in _NOUNS:
            return pending.joined(word)
        if word.kind in (*_NOUNS, "colour"):
            return self._add(word, pending)
        if word.kind == "particle" and self._outer is not None and self._outer[2]:
            return self._outer[0]
        if word.kind in ("classifier", "particle"):
            return pending
        if word.kind == "verb" and pending.start is not None and not pending.attributes:
            self._outer = (pending, word, [])
            return _Pending()
        self._between(word)
        return _Pending()

    def _add(self, word: Word, pending: _Pending) -> _Pending:
        start = word.start if pending.start is None else pending.start
        number = len(self._objects)
        place = word.kind in ("place", "colour")
        self._objects.append(
            Object(
                start=start,
                end=word.end,
                text=self._text[start : word.end],
                noun=word.text,
                attributes=pending.attributes,
                colours=tuple(each for each in pending.attributes if each in self._lexicon.colours),
                count=pending.count,
                role="place" if place else "camera" if word.kind == "camera" else "thing",
            )
        )
        if self._outer is not None and pending.start != self._outer[0].start:
            self._outer[2].append(number)
            return _Pending()
        if self._outer is not None:
            _, verb, others = self._outer
            self._actions.append(Action(verb.start, verb.end, verb.text, verb.text, (number,)))
            self._relations += [self._relation(verb, number, other) for other in others]
            self._outer = None
        if self._there is not None:
            self._relations.append(self._relation(self._there[0], self._there[1], number))
        else:
            self._group = [*self._group, number] if self._joined else [number]
        self._joined = False
        return _Pending()

    def _between(self, word: Word) -> None:
        """A word that is no part of an object."""
        if word.kind == "verb":
            self._actions.append(Action(word.start, word.end, word.text, word.text, tuple(self._group)))
            self._there = None
        elif word.text == "在" and self._group:
            self._there = (word, self._group[-1])
        elif word.kind == "relation" and self._there is not None and self._relations:
            # the side comes behind the object: 在方块的左边
            last = self._relations.pop()
            self._relations.append(self._relation(word, last.subject, last.object))
            self._there = None
        elif word.kind == "function":
            self._joined = word.text in _JOINING and bool(self._group)
        elif word.kind == "mark":
            self._there = self._outer = None
            self._joined = word.text == "、"
            if word.text in _SENTENCE:
                self._group = []

    def _relation(self, word: Word, subject: int, other: int) -> Relation:
        return Relation(word.start, word.end, word.text, subject, other)
