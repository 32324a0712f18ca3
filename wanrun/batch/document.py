"""Reads YAML that somebody else may have written: as text, lists and mappings, and nothing else.

No value is guessed to be a number, a date or a truth: ``no`` stays a word, and what a setting must be is the
setting's business. Aliases are refused, for a few lines of them stand for more than any memory holds.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node

from wanrun.errors import InvalidRequest, ModelNotFound

#: Characters of the longest file: thousands of shots.
LIMIT = 1 << 20


class _Loader(yaml.BaseLoader):
    """BaseLoader leaves every scalar as its text and knows no tags that make objects."""

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(
                problem=f"the alias *{event.anchor:.40} is not read: write it out",
                problem_mark=event.start_mark,
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key must be a word", problem_mark=key.start_mark)
            if key.value in seen:
                problem = f"{key.value[:40]!r} is given twice"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_file(path: Path) -> Any:
    """The document in ``path``: str, list or dict all through.

    Raises ModelNotFound where there is no such file, InvalidRequest, with line and column, for what is no
    YAML, for aliases, for keys that come twice and for more than a megabyte.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LIMIT + 1)
    except FileNotFoundError as error:
        raise ModelNotFound(f"there is no file {path}") from error
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > LIMIT:
        raise InvalidRequest(f"{path} has more than {LIMIT} bytes: split it")
    return parse(data, path.name)


def parse(data: bytes, name: str) -> Any:
    """The document in ``data``; raises as ``read_file``, naming the file ``name``."""
    try:
        return yaml.load(data.decode(), _Loader)  # a subclass of BaseLoader: it makes no objects
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"
        raise InvalidRequest(f"{name}{where}: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise InvalidRequest(f"{name} is no YAML: {error}".splitlines()[0]) from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{name} is not UTF-8: {error.reason} at byte {error.start}") from error
    except RecursionError as error:
        raise InvalidRequest(f"{name} is nested too deeply") from error
