"""Cuts English text into words, and says what kind of word each is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from wanrun.prompts.lexicon import English

Kind = Literal[
    "determiner", "number", "conjunction", "pronoun", "auxiliary", "adjective", "adverb", "noun",
    "verb", "base", "participle", "preposition", "mark",
]  # fmt: skip

#: Letters with hyphens and apostrophes inside, numbers, or any one other character.
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*|\d+(?:[.,]\d+)*[^\W\d_]*|_+|[^\w\s]")
_ADJECTIVES = ("ful", "ous", "ish", "less", "like", "ic", "able", "ible", "colored", "coloured")
_POSSESSIVE = ("'s", "’s")
_LEAST = 3


@dataclass(frozen=True, slots=True)
class Word:
    """One word or mark, where it stands, and its ``lower`` form."""

    start: int
    end: int
    text: str
    lower: str
    kind: Kind


def words(text: str, lexicon: English) -> list[Word]:
    """The words and marks of ``text`` in order.

    A ``base`` may be a verb or a noun ("walk"), a ``participle`` a verb or an adjective ("painted").
    """
    found = []
    for match in _WORD.finditer(text):
        lower = match[0].lower().replace("’", "'")
        found.append(Word(match.start(), match.end(), match[0], lower, _kind(lower, lexicon)))
    return found


def _kind(word: str, lexicon: English) -> Kind:
    if not word[0].isalnum():
        return "mark"
    if word in lexicon.numbers or word[-1].isdigit():
        return "number"
    if word[0].isdigit():
        return "adjective"  # 35mm, 4k
    for kind, known in _listed(lexicon):
        if word in known:
            return kind
    if word in lexicon.forms:
        return "participle" if word.endswith("ed") else "verb"
    if word in lexicon.verbs:
        return "base"
    return _guessed(word)


def _listed(lexicon: English) -> tuple[tuple[Kind, frozenset[str]], ...]:
    return (
        ("determiner", lexicon.determiners),
        ("conjunction", lexicon.conjunctions),
        ("pronoun", lexicon.pronouns),
        ("auxiliary", lexicon.auxiliaries),
        ("adjective", lexicon.colours),
        ("adjective", lexicon.adjectives),
        ("noun", lexicon.nouns | lexicon.places | lexicon.camera | lexicon.plurals),
        ("adverb", lexicon.adverbs),
        ("preposition", lexicon.prepositions),
    )


def _guessed(word: str) -> Kind:
    """By its ending; what has none that tells is a noun."""
    stem = len(word) - _LEAST
    if word.endswith(_POSSESSIVE):
        return "determiner"
    if word.endswith("ing") and stem > 2:
        return "verb"
    if word.endswith("ed") and stem > 1:
        return "participle"
    if word.endswith("ly") and stem > 1:
        return "adverb"
    if word.endswith(_ADJECTIVES) and stem > 1:
        return "adjective"
    return "noun"
