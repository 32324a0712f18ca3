"""Feeds mutated Modelfiles to the parser: ``python -m tests.modelfile.fuzz --count 20000 --seed 0``.

A file must give ModelfileError with places inside it, or a value whose every text stands in the file and that
prints to a file of the same value, in less than a second of CPU time and with no more address space than the
file's size plus 64 MiB. Prints the counts and exits 1 with the mutated bytes at the first failure.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Iterator

from tests.fuzzing import Failure, command, limited, mixed
from wanrun.errors import InvalidRequest, ModelfileError
from wanrun.modelfile.document import Modelfile
from wanrun.modelfile.grammar import dump, parse
from wanrun.modelfile.lexing import MAX_BYTES, decode
from wanrun.modelfile.parameters import PARAMETERS, format_parameter, parse_parameter

HEADS = (
    "FROM wan2.2-t2v-a14b",
    'FROM "./my model.gguf"\nDIFFUSION low_noise b.gguf',
    "DIFFUSION high_noise ./a high.gguf\ndiffusion low_noise hf.co/user/repo/b.gguf@main",
    "DIFFUSION c.gguf",
)
LINES = (
    "TEXT_ENCODER umt5.gguf",
    "VAE https://example.org/vae.safetensors#sha256=00",
    'PREVIEW """tae "2.1" .safetensors"""',
    "EXPANDER qwen.gguf",
    "ADAPTER high_noise ./lightning.safetensors 1.0",
    'ADAPTER "style #2.safetensors" -.5e-1',
    *(f"PARAMETER {name} 1" for name in PARAMETERS if name not in ("size", "precision")),
    "PARAMETER size 832x480",
    "PARAMETER precision bf16",
    'TEMPLATE """{{ prompt }},\n# no "comment"\nof 👩\u200d👧"""',
    'NEGATIVE "say \\"blurred\\" \\\\ \\d"',
    "SYSTEM bare   text\t# stays",
    'LICENSE """Apache-2.0"""',
    "LICENSE MIT",
    "REQUIRES v0.1.0-rc.1",
    "QUANTIZE q4_k_m",
    "# a comment",
    "",
)
TOKENS: tuple[bytes, ...] = (
    *(
        b'"',
        b'"""',
        b'""""',
        b"\\",
        b'\\"',
        b"\n",
        b"\r\n",
        b"\r",
        b" ",
        b"\t",
        b"#",
        b" #",
        b"\0",
        b"\xff",
        b"\xc3",
    ),
    *(b"FROM ", b"LICENSE ", b"ADAPTER ", b"high_noise ", b"nan", b"1e999", b"9" * 5000),
    *(b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xff\xfe", b"\xfe\xff", b"\x1b[2J"),
    *(text.encode() for text in ("\u200d", "\u2028", "\u0660", "\ufeff")),
)
#: Lines that are repeated until the file is as large as it may be.
REPEATED = (
    *(
        b"X",
        b'X """',
        b'SYSTEM "',
        b'VAE "\\"',
        b'ADAPTER "a" 1',
        b"ADAPTER a 1",
        b"LICENSE a",
        b"PARAMETER a b",
    ),
    *(line.encode() for line in (*HEADS, *LINES)),
)


def large() -> Iterator[bytes]:
    """Files near and beyond the size limit, each of one kind of line."""
    for token in TOKENS:
        yield b"FROM a\nSYSTEM " + token * (MAX_BYTES // len(token))
        yield b"FROM a\nSYSTEM " + (token * (MAX_BYTES // len(token)))[: MAX_BYTES - 14]
    for line in REPEATED:
        count = MAX_BYTES // (len(line) + 1)
        yield (line + b"\n") * count
        yield (line + b" ") * count
        yield b"FROM a\n" + (line + b"\n") * (count - 8)


def mutated(rng: random.Random) -> bytes:
    """Some lines in any order, with up to four edits."""
    lines = [rng.choice(HEADS), *rng.sample(LINES, rng.randint(0, 8))]
    rng.shuffle(lines)
    text = rng.choice(("\n", "\r\n", "\n\n")).join(lines)
    encoding = "utf-16" if rng.random() < 0.02 else "utf-8"
    data = text.encode(encoding)
    for _ in range(rng.randint(0, 4)):
        data = _edit(rng, data)
    return data


def _edit(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    end = min(len(data), at + rng.randint(1, 30))
    choice = rng.randrange(6)
    if choice == 0:
        return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
    if choice == 1:
        return data[:at] + data[end:]
    if choice == 2:
        return data[:end] + data[at:]
    if choice == 3:
        return data[:at] + data[at:end] * rng.choice((3, 50)) + data[end:]
    return data[:at] + rng.choice(TOKENS) + data[at:]


def correct(source: bytes, modelfile: Modelfile) -> None:
    """Failure unless what was read stands in ``source`` and reads back the same once it is printed."""
    text = decode(source)
    texts = [modelfile.from_, modelfile.template, modelfile.negative, modelfile.system, modelfile.requires]
    texts += [*modelfile.licenses, *(line.reference for line in modelfile.components)]
    texts += [line.reference for line in modelfile.adapters]
    for value in filter(None, texts):
        if value not in text and value.replace("\\", "").replace('"', "") not in text.replace(
            "\\", ""
        ).replace('"', ""):
            raise Failure(f"{value!r} does not stand in the file")
    for name, parameter in modelfile.parameters.items():
        if parse_parameter(name, format_parameter(parameter)) != parameter:
            raise Failure(f"parameter {name} is {parameter!r}")
    if len(text) < MAX_BYTES // 2:  # printing quotes values, which may take a large file over the limit
        try:
            again = parse(dump(modelfile))
        except InvalidRequest as error:
            raise Failure(f"cannot be printed: {error}") from error
        if again != modelfile:
            raise Failure("prints as something else")


def check(data: bytes) -> str:
    """What became of one file: ``refused`` or ``parsed``; Failure when it is neither, properly."""
    try:
        modelfile = limited(lambda: parse(data), len(data))
    except ModelfileError as error:
        lines = 1 + data.count(b"\n") + data.count(b"\r")
        if not error.problems or any(
            not 1 <= line <= lines or column < 1 for line, column, _ in error.problems
        ):
            raise Failure(f"no place or one outside the file: {error}") from error
        if len(str(error)) > 100_000:
            raise Failure("a message without end") from error
        return "refused"
    except Exception as error:
        raise Failure(f"{type(error).__name__}: {error}") from error
    correct(data, modelfile)
    return "parsed"


def inputs(rng: random.Random, count: int) -> Iterable[bytes]:
    """The large files, one in a hundred at most, then mutated ones."""
    return mixed(rng, list(large()), count // 100, mutated)


if __name__ == "__main__":
    sys.exit(command(__doc__, inputs, check, 20_000))
