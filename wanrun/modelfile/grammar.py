'''The Modelfile language: reads a file into a value, prints a value that reads back the same.

A file is UTF-8 (a byte-order mark is fine, UTF-16 with one is decoded) of at most 1 MiB. Each line starts
with an instruction, in any case; ``#`` starts a comment on a line of its own; blank lines and indentation
mean nothing::

    FROM reference                                     VAE reference
    DIFFUSION [high_noise|low_noise] reference         PREVIEW reference
    TEXT_ENCODER reference                             EXPANDER reference
    ADAPTER [high_noise|low_noise] reference [scale]   PARAMETER name value
    TEMPLATE text      NEGATIVE text      SYSTEM text      LICENSE text (may repeat)
    REQUIRES version   QUANTIZE type

A value is written in one of three ways:

* bare: the rest of the line without the blanks around it, taken as it stands;
* ``"""…"""``: taken as it stands, over as many lines as needed. The value ends at the first three quotes that
  no fourth follows, so it may itself start and end with quotes;
* ``"…"``: also over several lines; ``\\"`` is a quote, ``\\\\`` a backslash, any other backslash is itself.

The grammar follows Ollama's (ollama/ollama, parser/parser.go) where both have a word. It differs in that
every character counts (Ollama drops unprintable ones, which breaks emoji that hold joiners), that ``"…"`` has
two escapes, so that every text can be written, and that saying the same thing twice is a mistake instead of
the last one winning.
'''

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from wanrun.errors import InvalidRequest, ModelfileError, ModelNotFound
from wanrun.modelfile.document import AdapterLine, ComponentLine, Modelfile
from wanrun.modelfile.lexing import (
    BLANK,
    GAP,
    LINE,
    MAX_BYTES,
    TOKEN,
    Mistake,
    after,
    decode,
    place,
    quote,
    read_quoted,
    read_value,
    skip_value,
)
from wanrun.modelfile.parameters import PARAMETERS, Value, find_parameter, format_parameter, parse_parameter
from wanrun.wan.mixes import find_mix

#: A file with more mistakes than this is not read to its end.
MAX_MISTAKES = 100
MAX_SCALE = 100.0

_COMPONENTS = {"TEXT_ENCODER": "text_encoder", "VAE": "vae", "PREVIEW": "preview", "EXPANDER": "expander"}
_PRINTED = {role: word for word, role in _COMPONENTS.items()} | {
    "diffusion": "DIFFUSION",
    "high_noise": "DIFFUSION high_noise",
    "low_noise": "DIFFUSION low_noise",
}
_TEXTS = ("TEMPLATE", "NEGATIVE", "SYSTEM")
_LAST = ("LICENSE", "REQUIRES", "QUANTIZE")
_WORDS = ("FROM", "DIFFUSION", *_COMPONENTS, "ADAPTER", "PARAMETER", *_TEXTS, *_LAST)

_EXPERT = re.compile(r"(high_noise|low_noise)(?![^ \t\r\n])", re.IGNORECASE)
_SCALE = re.compile(r"[+-]?([0-9]++(\.[0-9]*+)?|\.[0-9]++|nan|inf(inity)?)(e[+-]?[0-9]++)?", re.IGNORECASE)
_VERSION = re.compile(r"v?(0|[1-9][0-9]{0,8})(\.(0|[1-9][0-9]{0,8})){2}(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def read(path: Path) -> Modelfile:
    """The Modelfile at ``path``; ModelNotFound when there is none, ModelfileError for its mistakes."""
    if not path.is_file():
        raise ModelNotFound(f"no Modelfile at {path}: give its path with -f")
    try:
        with path.open("rb") as file:
            return parse(file.read(MAX_BYTES + 1))
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror}") from error


def parse(source: bytes | str) -> Modelfile:
    """The value of a Modelfile's text; ModelfileError lists every mistake with line and column."""
    text = decode(source)
    reader = _Reader(text)
    mistakes: list[Mistake] = []
    position = after(GAP, text, 0)
    while position < len(text) and len(mistakes) < MAX_MISTAKES:
        try:
            position = reader.instruction(position)
        except Mistake as mistake:
            mistakes.append(mistake)
            position = after(LINE, text, mistake.resume)
        position = after(GAP, text, position)
    mistakes += reader.contradictions()
    if mistakes:
        mistakes.sort(key=lambda mistake: mistake.position)
        raise ModelfileError([(*place(text, mistake.position), mistake.message) for mistake in mistakes])
    return reader.modelfile()


def dump(modelfile: Modelfile) -> str:
    """Text that :func:`parse` reads back as an equal value.

    Raises InvalidRequest for a value that no Modelfile can hold, such as a reference with a line break.
    """
    lines = [] if modelfile.from_ is None else [f"FROM {_reference(modelfile.from_)}"]
    lines += [
        f"{_PRINTED.get(line.role, line.role)} {_reference(line.reference)}" for line in modelfile.components
    ]
    for adapter in modelfile.adapters:
        role = f"{adapter.role} " if adapter.role else ""
        lines.append(f"ADAPTER {role}{_reference(adapter.reference)} {adapter.scale!r}")
    known = [name for name in PARAMETERS if name in modelfile.parameters]
    names = known + [name for name in modelfile.parameters if name not in known]
    lines += [f"PARAMETER {name} {format_parameter(modelfile.parameters[name])}" for name in names]
    texts = (modelfile.template, modelfile.negative, modelfile.system)
    lines += [f"{word} {quote(text)}" for word, text in zip(_TEXTS, texts, strict=True) if text is not None]
    lines += [f"LICENSE {quote(text)}" for text in modelfile.licenses]
    lines += [] if modelfile.requires is None else [f"REQUIRES {modelfile.requires}"]
    lines += [] if modelfile.quantize is None else [f"QUANTIZE {modelfile.quantize}"]
    text = "\n".join(lines) + "\n"
    try:
        same = parse(text) == modelfile
    except ModelfileError as error:
        raise InvalidRequest(f"this cannot be written as a Modelfile: {error}") from error
    if not same:
        raise InvalidRequest("this cannot be written as a Modelfile: it would read back as something else")
    return text


def _reference(text: str) -> str:
    bare = text and '"' not in text and TOKEN.fullmatch(text) and not _EXPERT.fullmatch(text)
    return text if bare else quote(text)


@dataclass(slots=True)
class _Reader:
    """What the instructions read so far have said."""

    text: str
    #: Where each thing that may be said only once was said.
    said: dict[str, int] = field(default_factory=dict)
    strangers: bool = False
    values: dict[str, str] = field(default_factory=dict)
    components: list[ComponentLine] = field(default_factory=list)
    adapters: list[AdapterLine] = field(default_factory=list)
    parameters: dict[str, Value] = field(default_factory=dict)
    licenses: list[str] = field(default_factory=list)

    def instruction(self, start: int) -> int:
        """Reads the comment or instruction at ``start`` and returns where it ends."""
        if self.text[start] == "#":
            return after(LINE, self.text, start)
        end = after(TOKEN, self.text, start)
        word = self.text[start : min(end, start + 64)].upper()
        begin = after(BLANK, self.text, end)
        if word == "PARAMETER":
            return self.parameter(start, begin)
        if word == "ADAPTER":
            return self.adapter(begin)
        if word == "LICENSE":
            value, end = read_value(self.text, begin)
            self.licenses.append(value)
            return end
        if word == "DIFFUSION" or word in _COMPONENTS:
            return self.component(start, word, begin)
        if word not in _WORDS:
            self.strangers = True
            raise Mistake(start, _unknown(word), skip_value(self.text, end))
        self.once(start, word)
        value, end = read_value(self.text, begin)
        if word == "FROM":
            self.check_reference(begin, value, end)
        if word == "REQUIRES" and not _VERSION.fullmatch(value):
            raise Mistake(begin, f"REQUIRES must be a version such as 0.1.0, not {value[:60]!r}", end)
        if word == "QUANTIZE":
            value = self.quant(begin, value, end)
        self.values[word] = value
        return end

    def quant(self, begin: int, value: str, end: int) -> str:
        try:
            find_mix(value)
        except InvalidRequest as error:
            raise Mistake(begin, str(error), end) from error
        return value.upper()

    def component(self, start: int, word: str, begin: int) -> int:
        role = _COMPONENTS.get(word, "diffusion")
        if word == "DIFFUSION":
            begin, expert = self.expert(begin)
            role = expert or role
        self.once(start, _PRINTED[role])
        value, end = read_value(self.text, begin)
        self.check_reference(begin, value, end)
        self.components.append(ComponentLine(role, value))
        return end

    def parameter(self, start: int, begin: int) -> int:
        end = after(TOKEN, self.text, begin)
        value, stop = read_value(self.text, after(BLANK, self.text, end))
        try:
            name = find_parameter(self.text[begin:end]).name
            self.once(start, f"PARAMETER {name}")
            self.parameters[name] = parse_parameter(name, value)
        except InvalidRequest as error:
            raise Mistake(begin, str(error), stop) from error
        return stop

    def adapter(self, begin: int) -> int:
        begin, role = self.expert(begin)
        if self.text.startswith('"', begin):
            value, end = read_quoted(self.text, begin)
            line = after(LINE, self.text, end)
            scale, end = self.text[end:line].strip(" \t") or "1", line
        else:
            value, end = read_value(self.text, begin)
            head, _, last = value.replace("\t", " ").rpartition(" ")
            scaled = bool(head) and _SCALE.fullmatch(last) is not None
            value, scale = (value[: len(head)].rstrip(" \t"), last) if scaled else (value, "1")
        if not _SCALE.fullmatch(scale) or not abs(float(scale)) <= MAX_SCALE:  # not NaN either
            limit = f"-{MAX_SCALE:g} to {MAX_SCALE:g}"
            raise Mistake(begin, f"an adapter's scale is a number from {limit}, not {scale[:60]!r}", end)
        self.check_reference(begin, value, end)
        self.adapters.append(AdapterLine(value, role, float(scale)))
        return end

    def expert(self, begin: int) -> tuple[int, str | None]:
        """Where the reference starts, and the expert that is named at ``begin`` before it."""
        match = _EXPERT.match(self.text, begin)
        return (after(BLANK, self.text, match.end()), match[1].lower()) if match else (begin, None)

    def check_reference(self, begin: int, value: str, end: int) -> None:
        if not value.strip() or _CONTROL.search(value):
            raise Mistake(begin, "a reference is one line of text without control characters", end)
        if not self.text.startswith('"', begin) and (" #" in value or "\t#" in value):
            raise Mistake(begin, "a comment stands on its own line; quote a reference that holds '#'", end)

    def once(self, start: int, what: str) -> None:
        if what in self.said:
            line, _ = place(self.text, self.said[what])
            raise Mistake(start, f"{what} is given twice, first on line {line}", skip_value(self.text, start))
        self.said[what] = start

    def contradictions(self) -> Iterator[Mistake]:
        """What the file as a whole lacks or says against itself."""
        experts = [word for word in (_PRINTED["high_noise"], _PRINTED["low_noise"]) if word in self.said]
        dense = self.said.get("DIFFUSION")
        if experts and dense is not None:
            yield Mistake(dense, "DIFFUSION with and without an expert: give one or the other")
        elif "FROM" in self.said or self.strangers:
            return
        elif len(experts) == 1:
            yield Mistake(self.said[experts[0]], f"{experts[0]} alone: a model of two experts needs both")
        elif not experts and dense is None:
            yield Mistake(0, "no FROM and no DIFFUSION line: nothing to run")

    def modelfile(self) -> Modelfile:
        return Modelfile(
            from_=self.values.get("FROM"),
            components=tuple(self.components),
            adapters=tuple(self.adapters),
            parameters=self.parameters,
            template=self.values.get("TEMPLATE"),
            negative=self.values.get("NEGATIVE"),
            system=self.values.get("SYSTEM"),
            licenses=tuple(self.licenses),
            requires=self.values.get("REQUIRES"),
            quantize=self.values.get("QUANTIZE"),
        )


def _unknown(word: str) -> str:
    if word == "MESSAGE":
        return "MESSAGE is for chat models: a video has no conversation; use TEMPLATE, NEGATIVE or SYSTEM"
    near = difflib.get_close_matches(word, _WORDS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"a line starts with one of {', '.join(_WORDS)}"
    return f"unknown instruction {word!r}: {hint}"
