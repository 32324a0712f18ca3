"""A Modelfile's parameters as options of commands that make videos."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from wanrun import settings
from wanrun.errors import InvalidRequest, WanrunError
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


class MemoryType(click.ParamType[int]):
    """An amount of memory in bytes, as people write it."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            size = settings.parse_size(value, "it") if isinstance(value, str) else int(value)
            if not size:
                raise InvalidRequest("it must be above 0")
        except InvalidRequest as error:
            self.fail(str(error), param, ctx)
        return size


def request_options(function: Function) -> Function:
    """The options that decide what a run computes, and where."""
    decorators = (
        parameters("size", "frames"),
        click.option("--seconds", type=float, metavar="S", help="length of the video, instead of --frames"),
        parameters(
            *("fps", "steps", "guidance", "guidance_high", "guidance_low", "guidance_start", "guidance_end"),
            *("guidance_rescale", "sampler", "schedule", "cache", "noise", "cross_frame", "compose"),
            *("shift", "boundary", "expand", "seed", "precision", "decoder", "flicker"),
        ),
        click.option(
            "--target",
            metavar="TIME",
            help="how long the command may take, such as 60s or 5m: settings follow",
        ),
        click.option(
            "--quality",
            type=click.Choice(("draft", "good", "best")),
            help="how good it is to be, and no slower than that takes: settings follow",
        ),
        click.option("--negative", metavar="TEXT", help="what the video must not show"),
        click.option(
            "--lora",
            multiple=True,
            metavar="[EXPERT=]FILE[:SCALE]",
            help="a LoRA for this video, such as high_noise=style.safetensors:0.8; may repeat",
        ),
        click.option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:N, mps or xpu"),
        click.option(
            "--memory",
            type=MemoryType(),
            metavar="SIZE",
            help="what the run may take, such as 8GB; else what is free",
        ),
    )
    for decorator in reversed(decorators):
        function = decorator(function)
    return function


def with_loras(asked: Mapping[str, Any], quiet: bool) -> dict[str, Any]:
    """``asked`` with the LoRAs of ``--lora`` in the store; raises as ``wanrun.store.loras.bring``."""
    if not asked.get("lora"):
        return {**asked, "lora": None}
    from wanrun.cli.progress import shown
    from wanrun.store import loras
    from wanrun.store.store import open_store

    with shown(quiet=quiet) as progress:
        return {**asked, "lora": loras.bring(open_store(), map(loras.parse, asked["lora"]), progress)}


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
