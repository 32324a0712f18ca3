"""Takes out of a prompt of several objects what each of them is, so that it can be set against the whole."""

from __future__ import annotations

from wanrun.prompts.markup import Marked, Weight, marked, parse
from wanrun.prompts.reading import read


def without_heads(prompt: str) -> str:
    """The prompt in which the nouns of its objects weigh nothing: "a red (ball:0) left of a blue (star:0)".

    Empty for a prompt that is about fewer than two objects. Weights of its own are left out.
    """
    text = parse(prompt).text
    things = read(text).things
    if len(things) < 2:
        return ""
    heads = [(text.rindex(thing.noun, thing.start, thing.end), thing.noun) for thing in things]
    return marked(Marked(text, tuple(Weight(start, start + len(noun), 0.0) for start, noun in heads)))
