"""The characters of a Modelfile: decoding, positions, and values as they are quoted.

Patterns use possessive repeats, so that a hostile file costs time and memory linear in its size.
"""

from __future__ import annotations

import re

from wanrun.errors import ModelfileError

MAX_BYTES = 1 << 20

BLANK = re.compile(r"[ \t]*+")
GAP = re.compile(r"[ \t\r\n]*+")
LINE = re.compile(r"[^\r\n]*+")
TOKEN = re.compile(r"[^ \t\r\n]*+")
_NEWLINE = re.compile(r"\r\n?|\n")
_TRIPLE_END = re.compile(r'"""(?!")')
_QUOTED = re.compile(r'"([^"\\]*+(?:\\.[^"\\]*+)*+)"', re.DOTALL)
_ESCAPE = re.compile(r'\\(["\\])')


class Mistake(Exception):
    """Something wrong at ``position``; reading goes on at the line after ``resume``."""

    def __init__(self, position: int, message: str, resume: int | None = None) -> None:
        self.position, self.message = position, message
        self.resume = position if resume is None else resume
        super().__init__(message)


def decode(source: bytes | str) -> str:
    """The text of a file: UTF-8, or UTF-16 by its byte-order mark. ModelfileError for anything else."""
    try:
        data = source.encode() if isinstance(source, str) else source
        if len(data) > MAX_BYTES:
            raise ModelfileError([(1, 1, f"the file is larger than {MAX_BYTES >> 20} MiB")])
        wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        before = bytes(error.object[: error.start]).decode(errors="replace")
        message = "the file is not UTF-8 text: save it as UTF-8"
        raise ModelfileError([(*place(before, len(before)), message)]) from error
    except UnicodeEncodeError as error:
        raise ModelfileError([(*place(error.object, error.start), "half of a surrogate pair")]) from error
    nul = text.find("\0")
    if nul >= 0:
        raise ModelfileError([(*place(text, nul), "a NUL character: this is not a text file")])
    return text


def place(text: str, position: int) -> tuple[int, int]:
    """Line and column of ``position``, from 1."""
    line, start = 1, 0
    for newline in _NEWLINE.finditer(text, 0, position):
        line, start = line + 1, newline.end()
    return line, position - start + 1


def after(pattern: re.Pattern[str], text: str, position: int) -> int:
    """Where ``pattern`` stops matching when it starts at ``position``."""
    match = pattern.match(text, position)
    return match.end() if match else position


def read_value(text: str, begin: int) -> tuple[str, int]:
    """The value that starts at ``begin``, which must be all that its last line holds, and where it ends."""
    if not text.startswith('"', begin):
        end = after(LINE, text, begin)
        value = text[begin:end].rstrip(" \t")
        if not value:
            raise Mistake(begin, "a value is missing")
        return value, end
    value, end = read_quoted(text, begin)
    rest = after(BLANK, text, end)
    if rest < len(text) and text[rest] not in "\r\n":
        raise Mistake(rest, 'text after the closing quote: put """ around a value that holds quotes')
    return value, rest


def read_quoted(text: str, begin: int) -> tuple[str, int]:
    """The value between the quotes that open at ``begin`` and where they have closed."""
    if text.startswith('"""', begin):
        closing = _TRIPLE_END.search(text, begin + 3)
        if not closing:
            raise Mistake(begin, 'no closing """', len(text))
        return text[begin + 3 : closing.start()], closing.end()
    match = _QUOTED.match(text, begin)
    if not match:
        raise Mistake(begin, "no closing quote")
    return _ESCAPE.sub(r"\1", match[1]), match.end()


def skip_value(text: str, position: int) -> int:
    """The end of a value that is not wanted, so that its further lines are not taken for instructions."""
    line = after(LINE, text, position)
    opening = text.find('"""', position, line)
    closing = _TRIPLE_END.search(text, opening + 3) if opening >= 0 else None
    return closing.end() if closing else line


def quote(text: str) -> str:
    """``text`` between quotes that :func:`read_quoted` undoes."""
    if '"""' not in text:
        return f'"""{text}"""'
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
