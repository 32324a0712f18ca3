"""Reads an English prompt by a few rules and lists of closed-class words; no model is needed.

It is a chart of nothing: words are read once, from left to right, and each becomes part of a noun phrase, an
action or a relation, or is passed over. A prompt that is no sentence gives fewer parts, never an error.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from wanrun.prompts.lexicon import English, english
from wanrun.prompts.phrases import Phrase, noun_phrase, plural
from wanrun.prompts.structure import Action, Object, Relation, Structure
from wanrun.prompts.words import words

_ENDS = ".!?;:"
_RELATIVE = frozenset({"that", "who", "which"})


def read_english(text: str) -> Structure:
    """The objects, actions and relations of ``text``."""
    return _Reader(text, english()).read()


class _Reader:
    """The words of one prompt, and what has been read of them."""

    def __init__(self, text: str, lexicon: English) -> None:
        self._text, self._lexicon = text, lexicon
        self._words = words(text, lexicon)
        self._objects: list[Object] = []
        self._actions: list[Action] = []
        self._relations: list[Relation] = []
        self._starts = {
            name: _by_first(phrases)
            for name, phrases in (("relations", lexicon.relations), ("manners", lexicon.manners))
        }
        #: Things of this sentence, in order.
        self._sentence: list[int] = []
        #: The last thing and those that "and" joins to it; who does what comes next.
        self._group: list[int] = []
        #: Subjects of the last action.
        self._doers: list[int] = []
        #: A relation that waits for its object: its first and last word, and its subject if there is one.
        self._open: tuple[int, int, int | None] | None = None
        #: Relations whose subject comes later: "on a table, a cat".
        self._fronted: list[tuple[int, int, int]] = []

    def read(self) -> Structure:
        index = 0
        while index < len(self._words):
            index = self._step(index)
        return Structure(self._text, "en", tuple(self._objects), tuple(self._actions), tuple(self._relations))

    def _step(self, index: int) -> int:
        """Read what begins at word ``index``; the index of the first word behind it."""
        word = self._words[index]
        if word.kind == "mark":
            return self._mark(index)
        if (length := self._match("relations", index)) and self._begins_phrase(index + length):
            if word.lower != "of" or (self._objects and self._objects[-1].role != "camera"):
                self._open = (index, index + length, self._nearest())
            return index + length
        if word.lower == "both" and self._kind(index + 1) in ("verb", "auxiliary", "base", "adverb"):
            self._group = list(self._sentence)
            return index + 1
        if self._verbal(index):
            return self._action(index)
        if word.lower in _RELATIVE and self._kind(index + 1) in ("verb", "auxiliary", "base", "participle"):
            return index + 1
        phrase = self._phrase(index)
        if phrase is None:
            return index + 1
        self._add(phrase.item, index, phrase.after)
        return phrase.after

    def _mark(self, index: int) -> int:
        if self._words[index].text in _ENDS:
            self._sentence, self._group, self._fronted = [], [], []
        self._open = None
        return index + 1

    def _verbal(self, index: int) -> bool:
        """Whether an action begins here: a verb, perhaps with auxiliaries and adverbs before it."""
        word = self._words[index]
        if word.kind in ("verb", "participle"):
            if word.lower.endswith("ing"):
                # "flying birds" at the beginning of a phrase is a bird
                noun = self._kind(index + 1) in ("noun", "adjective") and not self._adverbial(index + 1)
                return not (noun and self._starts_clause(index))
            # "waves crash" at the beginning is a noun and its verb
            clause = self._starts_clause(index) and self._kind(index + 1) in ("verb", "base", "auxiliary")
            return bool(self._group) and not clause
        if word.kind == "base":
            before = self._kind(index - 1) if index else "mark"
            many = len(self._group) > 1 or (
                bool(self._group) and plural(self._objects[self._group[-1]].noun, self._lexicon)
            )
            return before == "auxiliary" or (
                bool(self._group) and many and before in ("noun", "base", "verb", "adverb")
            )
        if word.kind in ("auxiliary", "adverb"):
            behind = index + 1
            while self._kind(behind) in ("auxiliary", "adverb"):
                behind += 1
            return self._kind(behind) in ("verb", "participle") or (
                word.kind == "auxiliary" and self._kind(behind) == "base"
            )
        return False

    def _action(self, index: int) -> int:
        start = index
        while self._kind(index) in ("auxiliary", "adverb"):
            index += 1
        verb = self._words[index]
        index += 1
        while index < len(self._words):
            if length := self._match("manners", index):
                index += length
            elif self._adverbial(index) and not self._relates(index):
                index += 1
            else:
                break
        joined = start > 0 and self._words[start - 1].lower == "and" and self._doers
        subjects = tuple(self._doers if joined else self._group)
        end = self._words[index - 1].end
        begin = self._words[start].start
        self._actions.append(Action(begin, end, self._text[begin:end], verb.lower, subjects))
        self._doers = list(subjects)
        if subjects and self._begins_phrase(index) and not self._match("relations", index):
            self._open = (start, index, subjects[0])
        return index

    def _adverbial(self, index: int) -> bool:
        """Whether the word says how: "slowly", and "left" where no noun follows."""
        listed = self._words[index].lower in self._lexicon.adverbs
        return self._kind(index) == "adverb" or (
            listed and self._kind(index + 1) not in ("noun", "adjective")
        )

    def _add(self, item: Object, first: int, after: int) -> None:
        owned, alone = self._owned(), self._open is None
        item = replace(item, role=self._role(item, after, owned))
        number = len(self._objects)
        self._objects.append(item)
        if not alone:
            self._close(number)
        elif item.role == "thing":
            self._place_fronted(number)
        if (item.role == "thing" or alone) and not owned:
            before = self._words[first - 1].lower if first else ""
            self._group = [*self._group, number] if before in ("and", "&") and self._group else [number]
        if item.role == "thing" and not owned:
            self._sentence.append(number)

    def _owned(self) -> bool:
        """Whether what comes belongs to another, and what follows is still about that one."""
        if self._open is None or self._open[2] is None:
            return False
        first, after, _ = self._open
        words = " ".join(word.lower for word in self._words[first:after])
        return words in self._lexicon.owned_relations or self._words[first].kind in ("verb", "base")

    def _close(self, number: int) -> None:
        assert self._open is not None
        first, after, subject = self._open
        self._open = None
        if subject is None:
            self._fronted.append((first, after, number))
        elif subject != number:
            self._relate(first, after, subject, number)

    def _place_fronted(self, number: int) -> None:
        for first, after, place in self._fronted:
            if place != number:
                self._relate(first, after, number, place)
        self._fronted = []

    def _relate(self, first: int, after: int, subject: int, other: int) -> None:
        begin, end = self._words[first].start, self._words[after - 1].end
        self._relations.append(Relation(begin, end, self._text[begin:end], subject, other))

    def _role(self, item: Object, after: int, owned: bool) -> Literal["thing", "place", "camera"]:
        lexicon = self._lexicon
        if item.noun in lexicon.camera or (item.noun in lexicon.media and self._follows(after) == "of"):
            return "camera"
        opened = self._words[self._open[0]] if self._open is not None else None
        if owned and opened is not None and opened.kind == "preposition" and opened.lower != "in":
            return "thing"
        if item.noun in lexicon.places or item.noun in lexicon.colours:
            return "place"
        return "place" if opened is not None and opened.lower in lexicon.place_relations else "thing"

    def _nearest(self) -> int | None:
        """Who a relation is about: the first that "and" joins, or the last thing."""
        return self._group[-1] if self._group else None

    def _relates(self, index: int) -> bool:
        length = self._match("relations", index)
        return bool(length) and self._begins_phrase(index + length)

    def _begins_phrase(self, index: int) -> bool:
        return self._phrase(index) is not None

    def _phrase(self, index: int) -> Phrase | None:
        joined = len(self._group) > 1 or (bool(self._group) and self._words[index - 1].lower == "and")
        return noun_phrase(self._words, index, self._text, self._lexicon, one=not joined)

    def _starts_clause(self, index: int) -> bool:
        return index == 0 or self._kind(index - 1) in ("mark", "conjunction", "determiner", "adjective")

    def _match(self, name: str, index: int) -> int:
        """How many words the longest listed phrase at ``index`` has; 0 for none."""
        if index >= len(self._words):
            return 0
        for phrase in self._starts[name].get(self._words[index].lower, ()):
            if tuple(word.lower for word in self._words[index : index + len(phrase)]) == phrase:
                return len(phrase)
        return 0

    def _follows(self, index: int) -> str:
        return self._words[index].lower if index < len(self._words) else ""

    def _kind(self, index: int) -> str:
        return self._words[index].kind if 0 <= index < len(self._words) else "mark"


def _by_first(phrases: Sequence[tuple[str, ...]]) -> dict[str, list[tuple[str, ...]]]:
    found: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for phrase in phrases:
        found[phrase[0]].append(phrase)
    return found
