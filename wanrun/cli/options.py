"""A Modelfile's parameters as options of commands that make videos."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from wanrun.errors import WanrunError
from wanrun.modelfile.parameters import find_parameter, parse_parameter

Function = TypeVar("Function", bound=Callable[..., Any])


class ParameterType(click.ParamType[Any]):
    """A Modelfile parameter as an option: the same words, ranges and messages."""

    def __init__(self, parameter: str) -> None:
        self.name = find_parameter(parameter).expects
        self._parameter = parameter

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return parse_parameter(self._parameter, value) if isinstance(value, str) else value
        except WanrunError as error:
            self.fail(str(error), param, ctx)


def parameters(*names: str) -> Callable[[Function], Function]:
    """An option for each of these parameters, in this order."""

    def decorate(function: Function) -> Function:
        for name in reversed(names):
            parameter = find_parameter(name)
            metavar = {"size": "WxH", "integer": "N", "number": "X"}.get(parameter.kind, "NAME")
            function = click.option(
                f"--{name.replace('_', '-')}", type=ParameterType(name), metavar=metavar, help=parameter.help
            )(function)
        return function

    return decorate
