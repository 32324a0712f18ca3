"""The closed list of parameters that a Modelfile may set, each with its type, range and unit."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from wanrun import options
from wanrun.errors import InvalidRequest

#: What a parameter holds: a whole number, a number, a name or plugin, or (width, height) in pixels.
Value = int | float | str | tuple[int, int]

_INTEGER = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)
_NUMBER = re.compile(r"[+-]?([0-9]{1,20}(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][+-]?[0-9]{1,3})?", re.ASCII)
_SIZE = re.compile(r"([0-9]{1,6})[xX*×]([0-9]{1,6})", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter; ``low`` and ``high`` are inclusive unless ``above`` says that ``low`` itself is out."""

    name: str
    kind: str  # "integer", "number", "size", "name", "plugin" (a name with options) or "numbers"
    help: str
    low: float = 0
    high: float = 0
    unit: str = ""
    above: bool = False
    choices: tuple[str, ...] = ()

    @property
    def expects(self) -> str:
        """What a value must be, for people."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.kind == "plugin":
            return options.EXPECTS
        if self.kind == "numbers":
            return f"numbers with commas between them, at most {options.OPTIONS_LIMIT}"
        if self.kind == "name":
            return "a name of letters, digits, '+', '-', '.' and '_'"
        if self.kind == "size":
            return f"WIDTHxHEIGHT, each {self.low:.0f} to {self.high:.0f} {self.unit}"
        what = "a whole number" if self.kind == "integer" else "a number"
        low = f"above {self.low:g}" if self.above else f"from {int(self.low)}"
        high = f"{self.high:g}" if self.kind == "number" else f"{int(self.high)}"
        return f"{what} {low} to {high}" + (f" ({self.unit})" if self.unit else "")


_ALL = (
    Parameter("size", "size", "width and height of the video", 16, 4096, "pixels"),
    Parameter("frames", "integer", "number of frames", 1, 1025, "frames"),
    Parameter("fps", "integer", "frames a second of the finished video", 1, 240, "frames a second"),
    Parameter("steps", "integer", "denoising steps", 1, 1000, "steps"),
    Parameter("shift", "number", "how far the noise schedule leans to high noise", 0, 100, above=True),
    Parameter("boundary", "number", "noise level at which the low-noise expert takes over", 0, 1, "sigma"),
    Parameter("sampler", "plugin", "sampler plugin, with its options: 'wanrun samplers' lists them"),
    Parameter("schedule", "plugin", "noise schedule plugin, with its options: see 'wanrun schedules'"),
    Parameter("guidance", "number", "classifier-free guidance scale; 1 is off", 0, 50),
    Parameter("guidance_high", "number", "guidance scale of the high-noise expert", 0, 50),
    Parameter("guidance_low", "number", "guidance scale of the low-noise expert", 0, 50),
    Parameter("guidance_start", "number", "noise level from which on guidance is used", 0, 1, "sigma"),
    Parameter("guidance_end", "number", "noise level below which guidance is not used", 0, 1, "sigma"),
    Parameter("guidance_rescale", "number", "how far guidance keeps the spread; 0 is not at all", 0, 1),
    Parameter("cache", "plugin", "step cache, with its options; none computes every step"),
    Parameter("magcache", "numbers", "magnitude ratios of the cache magcache, one a step after the first"),
    Parameter("teacache", "numbers", "coefficients of the cache teacache, the highest power first"),
    Parameter("noise", "plugin", "how the frames' noise hangs together: iid, mixed or progressive"),
    Parameter("cross_frame", "number", "how much attention across frames is strengthened; 0 is not", 0, 10),
    Parameter("expand", "plugin", "expander of the prompt, with its options: template, llama; none is off"),
    Parameter("compose", "number", "extra guidance to the nouns of several objects; 0 is none", 0, 10),
    Parameter("seed", "integer", "seed of the noise", 0, 2**32 - 1),
    Parameter("precision", "name", "arithmetic of the model", choices=("fp32", "bf16", "int8", "auto")),
    Parameter("decoder", "name", "decoder plugin; in vae+tiny the second where memory fails the first"),
    Parameter("flicker", "number", "how far still areas are smoothed in time; 0 is not at all", 0, 1),
)

#: Every parameter by name, in the order in which they are shown and printed.
PARAMETERS: Mapping[str, Parameter] = MappingProxyType({each.name: each for each in _ALL})


def find_parameter(name: str) -> Parameter:
    """The parameter called ``name``, in any case; InvalidRequest with the nearest name when there is none."""
    found = PARAMETERS.get(name.lower())
    if found is not None:
        return found
    near = difflib.get_close_matches(name[:64].lower(), PARAMETERS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(PARAMETERS)}"
    raise InvalidRequest(f"unknown parameter {_shown(name)}: {hint}")


def parse_parameter(name: str, text: str) -> Value:
    """The typed value that ``text`` gives to parameter ``name``.

    Raises InvalidRequest when there is no such parameter, or when the value is of another type or out of
    range (NaN and infinity are); the message says what is expected.
    """
    parameter = find_parameter(name)
    try:
        value, why = _PARSERS[parameter.kind](text.strip(" \t")), ""
    except InvalidRequest as error:
        value, why = None, f": {error}"
    if value is None or not _allowed(parameter, value):
        raise InvalidRequest(f"{parameter.name} must be {parameter.expects}, not {_shown(text)}{why}")
    return value


def format_parameter(value: Value) -> str:
    """``value`` as the text that :func:`parse_parameter` reads back."""
    if isinstance(value, tuple):
        return f"{value[0]}x{value[1]}"
    return repr(value) if isinstance(value, float) else str(value)


def _integer(text: str) -> int | None:
    return int(text) if _INTEGER.fullmatch(text) else None


def _number(text: str) -> float | None:
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    return value if math.isfinite(value) else None


def _size(text: str) -> tuple[int, int] | None:
    match = _SIZE.fullmatch(text)
    return (int(match[1]), int(match[2])) if match else None


def _name(text: str) -> str | None:
    return text.lower() if _NAME.fullmatch(text) else None


def _numbers(text: str) -> str | None:
    numbers = text.replace(" ", "").split(",")
    finite = all(_number(each) is not None for each in numbers)
    return ",".join(numbers) if finite and len(numbers) <= options.OPTIONS_LIMIT else None


def _plugin(text: str) -> str:
    return str(options.parse(text))


_PARSERS = MappingProxyType(
    {
        "integer": _integer,
        "number": _number,
        "numbers": _numbers,
        "size": _size,
        "name": _name,
        "plugin": _plugin,
    }
)


def _allowed(parameter: Parameter, value: Value) -> bool:
    if isinstance(value, str):
        return not parameter.choices or value in parameter.choices
    numbers = value if isinstance(value, tuple) else (value,)
    if parameter.above and min(numbers) <= parameter.low:
        return False
    return parameter.low <= min(numbers) and max(numbers) <= parameter.high


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "…")
