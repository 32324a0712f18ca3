"""The expander that needs no model: it fills the slots that a prompt leaves open from curated lists."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from wanrun.prompts.faithful import colours_of
from wanrun.prompts.reading import read
from wanrun.prompts.slots import missing, slots, variant
from wanrun.prompts.structure import Structure

_JOIN = {"en": ", ", "zh": "，"}
#: What ends a prompt and cannot stand before an addition; a comma of ours follows.
_END = " \t\n.,;:。，；："
_CLAUSE = re.compile(r"[,.;:!?，。；：！？\n]")
#: Slots whose phrase goes on with a noun that stands alone, "a cat moving gently", and with any sentence.
_NOUN, _SENTENCE = ("attributes", "action"), ("relations", "setting")


def expand(text: str, seed: int, brief: str = "", model: Path | None = None) -> str:
    """``text`` with what it says nothing of; the same seed adds the same.

    The text's own words stand first and are not changed. ``brief`` is the bundle's SYSTEM, which may say what
    there is in the model's world: see :func:`wanrun.prompts.slots.slots`. A model is not used.
    """
    structure = read(text)
    return joined(text, structure, additions(structure, seed, brief))


def joined(text: str, structure: Structure, phrases: Mapping[str, str]) -> str:
    """``text`` and behind it the phrases of its open slots, as one goes on with the other."""
    out = text.rstrip(_END) if phrases else text
    flowing = structure.language == "en" and not _CLAUSE.search(text.rstrip(_END))
    alone = len(structure.objects) == 1
    for name, phrase in phrases.items():
        flowing = flowing and (name in _SENTENCE or (name in _NOUN and alone))
        out += (" " if flowing else _JOIN[structure.language]) + phrase
    return out


def additions(structure: Structure, seed: int, brief: str) -> dict[str, str]:
    """What would be added, by slot; nothing to a text that has no words."""
    if not any(character.isalpha() for character in structure.text):
        return {}
    known = slots(structure.language, brief)
    colours = colours_of(structure)
    found = {}
    for name in missing(structure, known):
        # what a prompt colours must not be lost before the same colour
        fit = [each for each in variant(structure, known[name]) if not colours & colours_of(read(each))]
        if fit:
            found[name] = fit[_index(f"{seed}:{name}", len(fit))]
    return found


def _index(key: str, count: int) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % count
