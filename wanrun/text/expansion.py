"""Has a prompt expanded, and sees to it that what comes back may be used."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from wanrun.prompts import template
from wanrun.prompts.faithful import problems
from wanrun.prompts.markup import Marked, Weight, marked, parse
from wanrun.prompts.untrusted import plain
from wanrun.types import Expander

#: Characters that an expander may make of a prompt, more than the prompt itself has.
LONGEST = 4000
_KEPT = 2000
_REASONS = 3


@dataclass(frozen=True, slots=True)
class Expansion:
    """The prompt that is encoded, marks included, and what had to be done about it, for people."""

    prompt: str
    notes: tuple[str, ...] = ()


def expand(prompt: str, seed: int, brief: str, expander: Expander, model: Path | None) -> Expansion:
    """What ``expander`` makes of ``prompt``, if it keeps every word of it and contradicts none.

    What does not is replaced by the template's expansion. The expander is given plain text, and what it
    returns is text that nobody vouches for: invisible characters are dropped, marks in it are escaped, and
    the prompt's own weights are put back on their words.
    """
    written = parse(prompt)
    text = plain(expander(written.text, seed, brief, model), len(written.text) + LONGEST)
    found = problems(written.text, text) + _scattered(written, text)
    if not found:
        return Expansion(_remarked(written, text))
    reasons = "; ".join(found[:_REASONS])
    text = template.expand(written.text, seed, brief)
    if problems(written.text, text):
        return Expansion(prompt, (f"the prompt is not expanded: {reasons}",))
    return Expansion(_remarked(written, text), (f"the template expands the prompt: {reasons}",))


class ExpansionCache:
    """Keeps expansions in ``folder``, so that the same prompt needs no model again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, *identity: object) -> Path:
        """Where the expansion of this expander, model, brief, seed and prompt is kept."""
        key = json.dumps(identity)  # escapes everything that is not ASCII, lone surrogates too
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()}.json"

    def read(self, path: Path) -> Expansion | None:
        """The expansion that was kept; a damaged file is as good as none."""
        try:
            kept = json.loads(path.read_text("ascii"))
            os.utime(path)  # it was used
        except (OSError, ValueError):
            return None
        match kept:
            case {"prompt": str(prompt), "notes": list(notes)}:
                return Expansion(prompt, tuple(map(str, notes)))
        return None

    def write(self, path: Path, expansion: Expansion) -> None:
        """Keep it; a full disk or a home that cannot be written costs only the cache."""
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", encoding="ascii", dir=self._folder, delete=False) as file:
                json.dump({"prompt": expansion.prompt, "notes": expansion.notes}, file)
            Path(file.name).replace(path)
            self._evict()

    def _evict(self) -> None:
        """Delete the least recently used beyond the last 2000."""
        kept = sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
        for path in kept[:-_KEPT]:
            path.unlink(missing_ok=True)


def _scattered(written: Marked, text: str) -> list[str]:
    """The words of one weight that are no longer together."""
    weighed = (written.text[each.start : each.end] for each in written.weights)
    return [f"it tore {words!r} apart" for words in weighed if words.lower() not in text.lower()]


def _remarked(written: Marked, text: str) -> str:
    """``text`` as a prompt, with the weights that ``written`` gives to words of it."""
    weights, at = [], 0
    for each in written.weights:
        words = written.text[each.start : each.end]
        start = text.find(words, at)
        if start < 0:
            start = text.lower().find(words.lower())
        if start >= at:
            at = start + len(words)
            weights.append(Weight(start, at, each.weight))
    return marked(Marked(text, tuple(weights)))
