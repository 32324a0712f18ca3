"""Turns a file of shots into the videos that it asks for, one by one.

model: wan-toy                      every shot's, unless it says otherwise; so are all settings
steps: 20
matrix: {seed: [1, 2, 3]}           every combination of these values, for every shot
shots:
- a red ball bouncing on a blue surface
- prompt: a green star moving left on black
  name: star
  guidance: 4
"""

from __future__ import annotations

import difflib
import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from wanrun.errors import InvalidRequest
from wanrun.modelfile.parameters import PARAMETERS, parse_parameter

#: Videos that one file may ask for.
MOST = 10_000
_TOLD = 20  # mistakes
#: What a file name may be made of; nothing in it is a folder.
_NAME = re.compile(r"\w[\w .-]{0,59}")
_SECONDS = re.compile(r"[0-9]{1,3}(\.[0-9]{1,6})?", re.ASCII)
#: What a matrix may vary.
_VARIED = ("model", "prompt", "negative", "seconds", *PARAMETERS)
_SHOT = ("name", "matrix", *_VARIED)
#: Two ways to say one thing: a shot that says it in one way does not mean the file's other.
_EITHER = {"frames": "seconds", "seconds": "frames"}


@dataclass(frozen=True, slots=True)
class Shot:
    """One video: what ``wanrun.request.resolve`` takes, and what of it tells it from its siblings."""

    model: str
    prompt: str
    #: The file's name begins with it; "" for the prompt's words.
    name: str
    asked: Mapping[str, Any]
    #: What the matrix varied, as it was written.
    varied: Mapping[str, str]


def read_shots(document: Any, model: str | None = None) -> list[Shot]:
    """The shots of a file, in its order, a matrix's last key changing fastest.

    ``model`` is that of shots which name none. Raises InvalidRequest with the first mistakes of the file.
    """
    if isinstance(document, list):
        document = {"shots": document}
    if not isinstance(document, dict):
        raise InvalidRequest("a file of shots is a list of prompts, or has a list called shots")
    problems: list[str] = []
    usual = {key: value for key, value in document.items() if key != "shots"}
    _check_keys(usual, "the file", problems)
    if "name" in usual:
        problems.append("the file: a name is a shot's own")
    entries = document.get("shots", [{}])
    if not isinstance(entries, list) or not entries:
        raise InvalidRequest("shots must be a list of at least one prompt")
    if len(entries) > MOST:
        raise InvalidRequest(f"the file has {len(entries)} shots, at most {MOST} are made")
    merged = [
        (where, _merged(usual, _entry(entry, where, problems)))
        for where, entry in ((f"shot {number}", entry) for number, entry in enumerate(entries, start=1))
    ]
    matrices = [_matrix(values.get("matrix", {}), where, problems) for where, values in merged]
    # counted before any is made: a few short lines may ask for more than any memory holds
    total = sum(math.prod(len(choices) for choices in matrix.values()) for matrix in matrices)
    if total > MOST:
        raise InvalidRequest(f"the file asks for {total} videos, at most {MOST} are made")
    shots = [
        shot
        for (where, values), matrix in zip(merged, matrices, strict=True)
        for shot in _expanded(values, matrix, model, where, problems)
    ]
    if problems:
        more = len(problems) - _TOLD
        lines = problems[:_TOLD] + ([f"and {more} more"] if more > 0 else [])
        raise InvalidRequest("\n".join(lines))
    return shots


def _entry(entry: Any, where: str, problems: list[str]) -> dict[str, Any]:
    if isinstance(entry, str):
        return {"prompt": entry}
    if not isinstance(entry, dict):
        problems.append(f"{where} must be a prompt, or have one")
        return {}
    _check_keys(entry, where, problems)
    return entry


def _check_keys(values: Mapping[str, Any], where: str, problems: list[str]) -> None:
    for key in values:
        if key not in _SHOT:
            problems.append(f"{where}: {_unknown(key, _SHOT)}")


def _unknown(key: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(key[:64].lower(), known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"
    return f"unknown key {key[:60]!r}: {hint}"


def _merged(usual: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A shot's own words over the file's; what it sets itself the file's matrix does not vary."""
    dropped = {other for one, other in _EITHER.items() if one in own} - own.keys()
    values = {key: value for key, value in usual.items() if key not in dropped} | dict(own)
    if isinstance(usual.get("matrix", {}), dict) and isinstance(own.get("matrix", {}), dict):
        shared = {key: choices for key, choices in usual.get("matrix", {}).items() if key not in own}
        values["matrix"] = shared | own.get("matrix", {})
    return values


def _matrix(found: Any, where: str, problems: list[str]) -> dict[str, list[str]]:
    if not isinstance(found, dict):
        problems.append(f"{where}: matrix must have lists of values by setting, such as seed: [1, 2]")
        return {}
    matrix: dict[str, list[str]] = {}
    for key, choices in found.items():
        if key not in _VARIED:
            problems.append(f"{where}, matrix: {_unknown(key, _VARIED)}")
        elif (
            not isinstance(choices, list) or not choices or not all(isinstance(each, str) for each in choices)
        ):
            problems.append(f"{where}, matrix: {key} must be a list of values, such as [1, 2]")
        else:
            matrix[key] = list(dict.fromkeys(choices))
    return matrix


def _expanded(
    values: Mapping[str, Any],
    matrix: Mapping[str, list[str]],
    model: str | None,
    where: str,
    problems: list[str],
) -> Iterator[Shot]:
    fixed = {key: value for key, value in values.items() if key in _VARIED and key not in matrix}
    plain: dict[str, str] = {}
    for key, value in fixed.items():
        if isinstance(value, str):
            plain[key] = value
        else:
            problems.append(f"{where}: {key} must be one value; several belong into its matrix")
    name = values.get("name", "")
    if not isinstance(name, str) or (name and (not _NAME.fullmatch(name) or name[-1] in " .")):
        problems.append(
            f"{where}: a name has letters, digits, blanks, '-', '_' and '.', not {str(name)[:60]!r}"
        )
        name = ""
    given = fixed.keys() | matrix.keys()
    if "prompt" not in given:
        problems.append(f"{where} has no prompt: say what the video shows")
    if "model" not in given and not model:
        problems.append(f"{where} has no model: write 'model: NAME' at the top of the file")
    typed: dict[str, dict[str, Any]] = {}
    for key, choices in ({key: [value] for key, value in plain.items()} | dict(matrix)).items():
        typed[key] = {}
        for choice in choices:
            try:
                typed[key][choice] = _value(key, choice)
            except InvalidRequest as error:
                problems.append(f"{where}: {error}")
    if problems:
        return
    for chosen in itertools.product(*matrix.values()):
        varied = dict(zip(matrix, chosen, strict=True))
        asked = {key: typed[key][text] for key, text in (plain | varied).items()}
        prompt, used = asked.pop("prompt"), asked.pop("model", model)
        yield Shot(used, prompt, name, MappingProxyType(asked), MappingProxyType(varied))


def _value(key: str, text: str) -> Any:
    """The setting ``text`` as ``resolve`` takes it; InvalidRequest for what never can be one."""
    if key == "negative":
        return text
    if key in ("prompt", "model"):
        if not text.strip():
            raise InvalidRequest(f"the {key} is empty")
        return text.strip()
    if key == "seconds":
        if not _SECONDS.fullmatch(text):
            raise InvalidRequest(f"seconds must be a number, not {text[:60]!r}")
        return float(text)
    return parse_parameter(key, text)
