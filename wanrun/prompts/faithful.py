"""Says whether an expansion keeps what its prompt says: all words, and no other colour, count or negation."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator

from wanrun.prompts.chinese import words as chinese_words
from wanrun.prompts.lexicon import chinese, english
from wanrun.prompts.reading import is_chinese, read
from wanrun.prompts.structure import Object, Structure
from wanrun.prompts.words import words as english_words

#: Without content: they may change when a sentence does.
_FUNCTION = frozenset({"determiner", "conjunction", "pronoun", "auxiliary", "preposition"})
_CHINESE_FUNCTION = frozenset({"classifier", "function", "particle", "mark"})
_CHINESE_NEGATIONS = ("不", "没", "无", "非")


def problems(prompt: str, expansion: str) -> list[str]:
    """What of ``prompt`` the expansion lost or contradicts, for people; none where it is faithful.

    Both are plain text. A word is kept in the same form; a colour and a count are contradicted by an object
    of the same noun with another one.
    """
    found = [f"it lost {word!r}" for word in lost_words(prompt, expansion)]
    before, after = read(prompt), read(expansion)
    for item in before.objects:
        same = [other for other in after.objects if _noun(other) == _noun(item)]
        found += [
            f"{item.text!r} became {other.text!r}" for other in same if _contradicts(item, other, before)
        ]
        if item.colours and item.role != "camera" and not any(_keeps_colours(item, other) for other in same):
            found.append(f"{item.text!r} lost its colour")
    if _negations(after) > _negations(before):
        found.append("it says no to something")
    return found


def lost_words(prompt: str, expansion: str) -> list[str]:
    """The content words of ``prompt`` that ``expansion`` has less often, each once."""
    if is_chinese(prompt):
        wanted = [word for word in _content(prompt) if expansion.count(word) < prompt.count(word)]
        return list(dict.fromkeys(wanted))
    there = Counter(_content(expansion))
    return [word for word, count in Counter(_content(prompt)).items() if there[word] < count]


def colours_of(structure: Structure) -> set[str]:
    """Every colour that the text names."""
    named = {colour for item in structure.objects for colour in item.colours}
    known = chinese().colours if structure.language == "zh" else english().colours
    alone = {item.noun for item in structure.objects if item.noun in known}
    return {"gray" if colour == "grey" else colour for colour in named | alone}


def _content(text: str) -> Iterator[str]:
    """The words with content, in lower case; of what is no language, every character."""
    if is_chinese(text):
        yield from (
            word.text for word in chinese_words(text, chinese()) if word.kind not in _CHINESE_FUNCTION
        )
        return
    for word in english_words(text, english()):
        if word.kind == "mark":
            if unicodedata.category(word.text[0])[0] == "S" and not word.text.isascii():  # an emoji
                yield word.text
        elif word.kind not in _FUNCTION:
            yield word.lower


def _contradicts(item: Object, other: Object, before: Structure) -> bool:
    """Whether ``other``, which has the noun of ``item``, cannot be the same: several of a noun may differ."""
    alike = [each for each in before.objects if _noun(each) == _noun(item)]
    colours = {colour for each in alike for colour in each.colours}
    if colours and any(colour not in colours for colour in other.colours):
        return True
    counts = {each.count for each in alike}
    if None in counts:
        return False
    return other.count not in (counts if counts == {1} else counts | {None})  # "the cats" may be two


def _keeps_colours(item: Object, other: Object) -> bool:
    return set(item.colours) <= set(other.colours)


def _noun(item: Object) -> str:
    """The noun without its plural's ending, so that one ball is compared with two balls."""
    noun = item.noun
    for ending in ("es", "s"):
        if len(noun) > len(ending) + 2 and noun.endswith(ending) and not noun.endswith("ss"):
            return noun.removesuffix(ending).rstrip("e")
    return noun.rstrip("e")


def _negations(structure: Structure) -> int:
    if structure.language == "zh":
        return sum(structure.text.count(word) for word in _CHINESE_NEGATIONS)
    return sum(
        word.lower in english().negations or word.lower.endswith("n't")
        for word in english_words(structure.text, english())
    )
