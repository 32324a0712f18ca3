"""Reads one English noun phrase: determiners, numbers and attributes before a head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wanrun.prompts.lexicon import English
from wanrun.prompts.structure import Object
from wanrun.prompts.words import Word

_ONE = frozenset({"a", "an", "this", "that", "each", "every", "another", "one"})


@dataclass(frozen=True, slots=True)
class Phrase:
    """A noun phrase, and the index of the first word behind it."""

    item: Object
    after: int


def noun_phrase(words: Sequence[Word], first: int, text: str, lexicon: English, one: bool) -> Phrase | None:
    """The longest noun phrase that begins at word ``first``, None where none does.

    ``one`` says that a singular noun with nothing before it that makes two of it takes no base verb, so that
    "a ski jump" is one phrase, and "a cat and a dog play" is two and an action.
    """
    index, measured = _measure(words, first, lexicon)
    determined: list[Word] = []
    while index < len(words) and words[index].kind in ("determiner", "number"):
        determined.append(words[index])
        index += 1
    parts: list[Word] = []
    while index < len(words):
        taken = _taken(words, index, determined, parts, one)
        if not taken:
            break
        parts += [word for word in words[index : index + taken] if word.kind not in ("mark", "conjunction")]
        index += taken
    while parts and parts[-1].kind == "adverb":
        parts.pop()
        index -= 1
    if not parts:
        return None
    start, end = words[first].start, parts[-1].end
    head, before = parts[-1], parts[:-1]
    attributes = tuple(word.lower for word in before)
    return Phrase(
        Object(
            start=start,
            end=end,
            text=text[start:end],
            noun=head.lower,
            attributes=attributes,
            colours=tuple(each for each in attributes if each in lexicon.colours),
            count=_count(measured + determined, head, lexicon),
            role="thing",
        ),
        index,
    )


def plural(noun: str, lexicon: English) -> bool:
    """Whether the noun's form is a plural's."""
    singular = noun.endswith(("ss", "us", "is")) or noun in lexicon.nouns or noun in lexicon.camera
    return noun in lexicon.plurals or (noun.endswith("s") and not singular)


def _measure(words: Sequence[Word], first: int, lexicon: English) -> tuple[int, list[Word]]:
    """Where the phrase goes on behind "a pair of", and its words."""
    for index in range(first, min(first + 4, len(words) - 1)):
        if words[index].lower in lexicon.measures and words[index + 1].lower == "of":
            return index + 2, [word for word in words[first : index + 1] if word.kind == "number"]
        if words[index].kind not in ("determiner", "number", "adjective"):
            break
    return first, []


def _taken(
    words: Sequence[Word], index: int, determined: Sequence[Word], parts: Sequence[Word], one: bool
) -> int:
    """How many words from ``index`` on still belong to the phrase."""
    word = words[index]
    following = words[index + 1].kind if index + 1 < len(words) else "mark"
    nominal = ("noun", "adjective", "base", "number")
    has_noun = any(part.kind in ("noun", "base") or _noun_form(part) for part in parts)
    if word.kind == "adjective":
        return 0 if has_noun else 1
    if word.kind == "noun":
        return 1
    if word.kind == "base":
        return 1 if not has_noun or (one and not parts[-1].lower.endswith("s")) else 0
    if word.kind in ("verb", "participle"):
        if has_noun:
            return 0
        noun = _noun_form(word)
        if following in nominal:  # "a flying bird"; "waves crash" is a noun and its verb
            return 1 if determined or parts or noun else 0
        return 1 if noun and (determined or parts or following in ("verb", "base", "auxiliary")) else 0
    if word.kind == "adverb":  # "a very large dog"
        return 1 if not has_noun and (determined or parts) and following in ("adjective", "participle") else 0
    if parts and parts[-1].kind == "adjective" and not has_noun and following in ("adjective", "participle"):
        # "a red and white cat", "a big, red ball"
        joined = word.lower in ("and", ",") and _ends_in_noun(words, index + 1)
        return 2 if joined else 0
    return 0


def _noun_form(word: Word) -> bool:
    """Whether a verb's form is a noun's plural as well: "waves"."""
    return word.kind == "verb" and word.lower.endswith("s")


def _ends_in_noun(words: Sequence[Word], index: int) -> bool:
    while index < len(words) and words[index].kind in ("adjective", "participle"):
        index += 1
    return index < len(words) and words[index].kind in ("noun", "base")


def _count(determined: Sequence[Word], head: Word, lexicon: English) -> int | None:
    for word in determined:
        if word.kind == "number":
            digits = word.lower.replace(",", "")
            if word.lower in lexicon.numbers:
                return lexicon.numbers[word.lower]
            return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else None
    if any(word.lower in lexicon.plural_determiners for word in determined):
        return None
    if any(word.lower in _ONE for word in determined):
        return 1
    return None if plural(head.lower, lexicon) else 1
