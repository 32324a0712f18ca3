"""The expander that asks a language model, in llama.cpp, for what a prompt leaves open."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from wanrun import settings
from wanrun.errors import InvalidRequest
from wanrun.prompts import template
from wanrun.prompts.faithful import problems
from wanrun.prompts.reading import read
from wanrun.prompts.slots import missing, slots
from wanrun.prompts.structure import Structure
from wanrun.prompts.untrusted import plain
from wanrun.text.child import Child
from wanrun.text.frames import ASK, READY, SAID
from wanrun.types import Range

_TIMEOUT_S = 300.0
#: Characters of the rewritten sentence and of each slot.
_CAPTION, _PHRASE = 240, 60
#: A prompt that has this many words says what there is to see.
_LONG_WORDS = 150
_BRIEF = {
    "en": "You direct short films. Rewrite the prompt as one vivid sentence with all of its words, then say "
    "what it leaves open. Contradict nothing: no other colours, no other numbers. Answer in JSON.",
    "zh": "你是短片导演。把提示词改写成一句生动的话，保留它的每个词，再补充它没有说明的内容。"
    "不要与它矛盾：不改变颜色和数量。用 JSON 回答。",
}
_EXAMPLES = {
    "en": ("a dog on a hill", "a man reads a letter"),
    "zh": ("一只狗在山上", "一个男人在读信"),
}


def expand(
    text: str,
    seed: int,
    brief: str,
    model: Path | None,
    *,
    tokens: Annotated[int, Range(64, 1024)] = 400,
    temperature: Annotated[float, Range(0, 2)] = 0.7,
) -> str:
    """``text`` in a language model's words, with what it leaves open: setting, light, camera, and so on.

    The model, the bundle's EXPANDER, answers in JSON with a field for each open slot. A field that loses or
    contradicts the prompt's words is the template's instead. At most ``tokens`` are written. Raises
    InvalidRequest without a model, EncoderError when its process fails.
    """
    if model is None:
        raise InvalidRequest(
            "the expander llama needs a language model: write EXPANDER and an instruct model's GGUF in the "
            "Modelfile, or use the expander template"
        )
    structure = read(text)
    if len(text.split()) > _LONG_WORDS or not template.additions(structure, seed, brief):
        return template.expand(text, seed, brief)
    child = opened(model)
    try:
        fields = ask(child, structure, seed, brief, tokens, temperature)
    finally:
        child.close()
    return composed(structure, seed, brief, fields)


def opened(model: Path) -> Child:
    """The model in a process of its own, which is to be closed. Raises EncoderError."""
    child = Child(
        model.absolute(), settings.threads(), _TIMEOUT_S, "wanrun.text.instruct_worker", "language model"
    )
    try:
        child.receive(READY)
    except BaseException:
        child.close()
        raise
    return child


def ask(
    child: Child, structure: Structure, seed: int, brief: str, tokens: int, temperature: float
) -> dict[str, str]:
    """The fields of the model's answer, by name: caption, and each slot that the prompt leaves open.

    None of them where the model ran out of tokens before the end. Raises EncoderError.
    """
    asked = question(structure, brief) | {"seed": seed, "tokens": tokens, "temperature": temperature}
    said = child.ask(ASK, json.dumps(asked).encode(), SAID)
    try:
        fields = json.loads(said)
    except ValueError:
        return {}
    return {name: value for name, value in fields.items() if isinstance(value, str)}


def composed(structure: Structure, seed: int, brief: str, fields: Mapping[str, str]) -> str:
    """The model's sentence and phrases; the prompt and the template's where they are not faithful to it."""
    text = structure.text
    caption = plain(fields.get("caption", ""), _CAPTION)
    sentence = text if problems(text, caption) else caption
    phrases: dict[str, str] = {}
    for name, instead in template.additions(structure, seed, brief).items():
        phrase = plain(fields.get(name, ""), _PHRASE).strip(" .,;，。；")
        said = template.joined(sentence, structure, {**phrases, name: phrase})
        phrases[name] = instead if not phrase or problems(text, said) else phrase
    return template.joined(sentence, structure, phrases)


def grammar(fields: Mapping[str, tuple[str, ...]]) -> str:
    """GBNF of a JSON object with a caption and these fields, in order: any text, or one of those listed."""
    character = r'[^"\\\x00-\x1f\x7f]'
    rules = {"caption": rf'"\"" {character}{{1,{_CAPTION}}} "\""'}
    for name, listed in fields.items():
        rules[name] = " | ".join(map(_literal, listed)) or rf'"\"" {character}{{1,{_PHRASE}}} "\""'
    body = ' "," '.join(rf'"\"{name}\":" {name}' for name in rules)
    return "\n".join(
        [f'root ::= "{{" {body} "}}"', *(f"{name} ::= {rule}" for name, rule in rules.items()), ""]
    )


def _literal(phrase: str) -> str:
    """The phrase as a JSON string, which is a string of GBNF in turn."""
    return json.dumps(json.dumps(phrase, ensure_ascii=False), ensure_ascii=False)


def question(structure: Structure, brief: str) -> dict[str, Any]:
    """What the worker is asked: brief, examples, prompt and grammar."""
    known = slots(structure.language, brief)
    names = missing(structure, known)
    examples = []
    for number, text in enumerate(_EXAMPLES[structure.language]):
        filled = {name: known[name].add[number % len(known[name].add)] for name in names}
        examples.append(f"Prompt: {text}\nJSON: {_json({'caption': text, **filled})}\n")
    return {
        "brief": brief or _BRIEF[structure.language],
        "examples": "\n".join(examples),
        "prompt": structure.text,
        "grammar": grammar({name: known[name].add if known[name].closed else () for name in names}),
    }


def _json(values: dict[str, str]) -> str:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))
