"""Reads which options a plugin takes from its source, so that nobody waits for its imports to learn them.

The options are the keyword-only parameters of the ``def`` that the entry point names, each annotated ``int``,
``float``, ``bool``, ``str``, ``Literal["a", "b"]`` or ``tuple[float, ...]`` (the list that bare values fill).
``Annotated[float, Range(0, 1)]`` bounds a number.
"""

from __future__ import annotations

import ast
import importlib.util
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any

from wanrun.errors import InvalidRequest, PluginError

_NUMBER = re.compile(r"[+-]?([0-9]{1,20}(\.[0-9]{0,40})?|\.[0-9]{1,40})(e[+-]?[0-9]{1,3})?", re.ASCII)
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_SWITCH = {"on": True, "true": True, "off": False, "false": False}


@dataclass(frozen=True, slots=True)
class Option:
    """One option: what its text must be, and its default for people; without one it must be given."""

    name: str
    kind: str  # "int", "float", "bool" or "str"
    default: str | None = None
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()
    several: bool = False

    @property
    def expects(self) -> str:
        """What a value must be, for people."""
        if self.choices:
            return " or ".join(self.choices)
        word = {"int": "a whole number", "float": "a number", "bool": "on or off", "str": "a word"}[self.kind]
        ranged = (self.low, self.high) != (-math.inf, math.inf)
        return f"{word} from {self.low:g} to {self.high:g}" if ranged else word

    def read(self, text: str) -> Any:
        """The typed value of ``text``; InvalidRequest for another type or one out of range."""
        value: Any = text
        if self.kind == "bool":
            value = _SWITCH.get(text)
        elif self.kind == "int":
            value = int(text) if _INTEGER.fullmatch(text) else None
        elif self.kind == "float":
            value = float(text) if _NUMBER.fullmatch(text) and math.isfinite(float(text)) else None
        outside = self.kind in ("int", "float") and value is not None and not self.low <= value <= self.high
        if value is None or outside or (self.choices and text not in self.choices):
            raise InvalidRequest(f"{self.name} must be {self.expects}, not {text}")
        return value


@dataclass(frozen=True, slots=True)
class Signature:
    """What a plugin's source says about it: its docstring, its options by name, its forwards a step."""

    about: str
    options: Mapping[str, Option]
    forwards: int = 1


def read(entry: EntryPoint) -> Signature | None:
    """The signature of what ``entry`` names, without importing it; None where no ``def`` of it is found.

    Raises PluginError for an option whose type cannot be written as text.
    """
    function = _definition(entry)
    if function is None:
        return None
    given = function.args
    options = {
        argument.arg: _option(entry.name, argument, default)
        for argument, default in zip(given.kwonlyargs, given.kw_defaults, strict=True)
    }
    return Signature(ast.get_docstring(function) or "", options, _forwards(function))


def _definition(entry: EntryPoint) -> ast.FunctionDef | None:
    try:
        found = importlib.util.find_spec(entry.module)
        source = getattr(found and found.loader, "get_source", lambda module: None)(entry.module)
        body = ast.parse(source or "").body
    except Exception:  # finding a third party's module runs its packages, which may raise anything at all
        return None
    functions = (each for each in body if isinstance(each, ast.FunctionDef) and each.name == entry.attr)
    return next(functions, None)


def _forwards(function: ast.FunctionDef) -> int:
    """What ``wanrun.types.forwards`` marks it with."""
    for node in function.decorator_list:
        match node:
            case ast.Call(ast.Name("forwards"), [ast.Constant(value=int(count))]):
                return count
    return 1


def _option(plugin: str, argument: ast.arg, default: ast.expr | None) -> Option:
    written = None if default is None else str(_literal(default))
    try:
        return Option(argument.arg, default=written, **_type(argument.annotation))
    except (ValueError, TypeError) as error:
        raise PluginError(
            f"plugin {plugin!r} takes {argument.arg}, whose type cannot be written as text: {error}"
        ) from error


def _literal(node: ast.expr) -> Any:
    """The value of a constant expression; its source where it is none."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def _type(node: ast.expr | None) -> dict[str, Any]:
    """The fields of an Option that its annotation decides; ValueError for one that we do not know."""
    match node:
        case ast.Name(id="int" | "float" | "bool" | "str" as kind):
            return {"kind": kind}
        case ast.Subscript(ast.Name("Literal"), choices):
            values = ast.literal_eval(choices)
            return {"kind": "str", "choices": values if isinstance(values, tuple) else (values,)}
        case ast.Subscript(ast.Name("tuple"), ast.Tuple([inner, ast.Constant(value=ellipsis)])):
            if ellipsis is ...:
                return _type(inner) | {"several": True}
        case ast.Subscript(
            ast.Name("Annotated"), ast.Tuple([inner, ast.Call(ast.Name("Range"), [low, high])])
        ):
            return _type(inner) | {"low": ast.literal_eval(low), "high": ast.literal_eval(high)}
        case ast.BinOp(inner, ast.BitOr(), ast.Constant(value=None)):
            return _type(inner)
    raise ValueError(ast.unparse(node) if node is not None else "it has none")
