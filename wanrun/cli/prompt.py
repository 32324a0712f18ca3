"""The command that shows how a prompt is read."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import click

from wanrun import load, pipeline
from wanrun.cli.options import ParameterType
from wanrun.cli.tables import printable, section
from wanrun.errors import InvalidRequest
from wanrun.prompts import markup
from wanrun.prompts.markup import Marked
from wanrun.prompts.reading import read
from wanrun.prompts.structure import Structure
from wanrun.request import resolve
from wanrun.types import Bundle

_COLOURS = {"thing": "cyan", "place": "blue", "camera": "bright_black"}
_SHOWN = 400


@click.command()
@click.argument("text", required=False)
@click.option(
    "--model", metavar="NAME", default="wan-toy", show_default=True, help="whose tokens are counted"
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="chooses words")
@click.option(
    "--expand", type=ParameterType("expand"), metavar="NAME", help="read what an expander makes of it"
)
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
def prompt(text: str | None, model: str, seed: int, expand: str | None, as_json: bool) -> None:
    """Show how the prompt TEXT, or standard input, is read.

    Its objects, actions and relations, its weights, the alternatives that the seed chooses, how many tokens
    it has of the 512 that a model reads at once, and what would be cut.
    """
    text = sys.stdin.read(1_000_001) if text is None else text
    if not text.strip():
        raise InvalidRequest("the prompt is empty: say what the video shows")
    bundle = load(model)
    request = resolve(bundle, text, {"seed": seed, "expand": expand or "none"})
    marked = markup.parse(pipeline.expand(bundle, request).text)
    structure = read(marked.text)
    counted = _tokens(bundle, marked.text)
    if as_json:
        described = {
            "text": marked.text,
            "weights": [asdict(each) for each in marked.weights],
            **structure.json(),
            **counted,
        }
        click.echo(json.dumps(described, ensure_ascii=False).encode("utf-8", "replace").decode())
        return
    _show(marked, structure, counted, model)


def _tokens(bundle: Bundle, text: str) -> dict[str, Any]:
    from wanrun.gguf.reader import read_gguf
    from wanrun.text.clean import clean
    from wanrun.text.parts import divide
    from wanrun.text.tokenizer import MAX_TOKENS, Tokenizer

    tokenizer = Tokenizer.from_metadata(read_gguf(bundle.components["text_encoder"].path).metadata)
    parts = divide(clean(text), tokenizer.count)
    return {
        "tokens": sum(map(tokenizer.count, parts.texts)),
        "limit": MAX_TOKENS,
        "parts": parts.texts,
        "cut": parts.cut,
    }


def _show(marked: Marked, structure: Structure, counted: dict[str, Any], model: str) -> None:
    click.echo(_coloured(marked, structure))
    click.echo()
    named = [printable(item.noun) for item in structure.objects]
    objects = [_object(structure, index) for index in range(len(structure.objects))]
    actions = [
        (printable(each.text), ", ".join(named[index] for index in each.subjects))
        for each in structure.actions
    ]
    relations = [
        (named[each.subject], printable(each.text), named[each.object]) for each in structure.relations
    ]
    weights = [(printable(marked.text[each.start : each.end]), f"{each.weight:g}") for each in marked.weights]
    blocks: list[tuple[str, list[tuple[str, ...]]]] = [
        ("Objects", objects),
        ("Actions", list(actions)),
        ("Relations", list(relations)),
        ("Weights", list(weights)),
    ]
    for title, rows in blocks:
        if rows:
            click.echo(section(title, rows))
    parts = counted["parts"]
    line = f"{counted['tokens']} tokens of {model}; {counted['limit']} are read at once"
    click.echo(line + (f", so that it is read in {len(parts)} parts" if len(parts) > 1 else ""))
    for number, part in enumerate(parts if len(parts) > 1 else (), 1):
        click.echo(f"  {number}. {_short(part)}")
    if counted["cut"]:
        click.echo(click.style("cut: ", fg="red") + _short(counted["cut"]))


def _object(structure: Structure, index: int) -> tuple[str, ...]:
    item = structure.objects[index]
    count = "" if item.count in (1, None) else f"×{item.count}"
    return printable(item.noun), printable(" ".join(item.attributes)), count, item.role


def _coloured(marked: Marked, structure: Structure) -> str:
    """The text with its parts in colour; on what is no terminal, click leaves the colours out."""
    styles: list[dict[str, Any]] = [{} for _ in marked.text]

    def paint(start: int, end: int, **style: Any) -> None:
        for index in range(start, end):
            styles[index] = styles[index] | style

    for item in structure.objects:
        paint(item.start, item.end, fg=_COLOURS[item.role])
    for action in structure.actions:
        paint(action.start, action.end, fg="yellow")
    for relation in structure.relations:
        paint(relation.start, relation.end, fg="magenta")
    for each in marked.weights:
        paint(each.start, each.end, bold=each.weight > 1, dim=each.weight < 1)
    return _runs(marked.text, styles, lambda text, style: click.style(printable(text), **style))


def _runs(text: str, styles: list[dict[str, Any]], painted: Callable[[str, dict[str, Any]], str]) -> str:
    out, start = [], 0
    for index in range(1, len(text) + 1):
        if index == len(text) or styles[index] != styles[start]:
            piece = text[start:index]
            out.append(painted(piece, styles[start]) if styles[start] else printable(piece))
            start = index
    return "".join(out)


def _short(text: str) -> str:
    text = text.strip()
    return printable(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text)} characters)")
