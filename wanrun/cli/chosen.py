"""The settings that somebody at the prompt has chosen, checked as soon as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from wanrun.cli.plan import SOME_PROMPT
from wanrun.errors import InvalidRequest
from wanrun.modelfile.parameters import PARAMETERS, find_parameter, format_parameter, parse_parameter
from wanrun.request import resolve
from wanrun.runtime.advised import WISHES, read_level, read_target
from wanrun.store import loras
from wanrun.store.creation import quiet
from wanrun.store.store import open_store
from wanrun.types import Bundle, Lora

#: The last of them that is chosen counts.
_EITHER = {"frames": "seconds", "seconds": "frames"}
_SIDES = ("width", "height")


class Chosen:
    """What ``wanrun.request.resolve`` takes as ``asked``, one setting after the other."""

    def __init__(self, bundle: Bundle, asked: Mapping[str, Any]) -> None:
        self._bundle = bundle
        self.asked = {name: value for name, value in asked.items() if value is not None}

    def put(self, name: str, text: str) -> None:
        """Choose ``text`` for the setting ``name``; "" is the model's own again.

        Raises InvalidRequest, with nothing changed, for a setting or a value that is none.
        """
        key = _key(name)
        asked = dict(self.asked)
        asked.pop("size" if key in _SIDES else key, None)
        if text:
            asked.pop(_EITHER.get(key, ""), None)
            key, value = ("size", self._resized(key, text)) if key in _SIDES else (key, _value(key, text))
            asked[key] = value
        read_target(asked.get("target")), read_level(asked.get("quality"))
        resolve(
            self._bundle, SOME_PROMPT, {name: value for name, value in asked.items() if name not in WISHES}
        )
        self.asked = asked

    def rows(self) -> list[tuple[str, str]]:
        """Every setting that has a value, chosen or the model's own."""
        values = {"negative": self._bundle.negative, **self._bundle.parameters, **self.asked}
        if "seconds" in values:
            values.pop("frames", None)
        order = [*PARAMETERS, "seconds", "negative", "lora", *WISHES]
        return [(name, _shown(values[name])) for name in order if values.get(name) not in (None, "")]

    def _resized(self, side: str, text: str) -> Any:
        width, height = self.asked.get("size", self._bundle.parameters["size"])
        return parse_parameter("size", f"{text}x{height}" if side == "width" else f"{width}x{text}")


def _key(name: str) -> str:
    key = name.lower().replace("-", "_").removesuffix("_prompt")
    return key if key in ("negative", "seconds", "lora", *WISHES, *_SIDES) else find_parameter(key).name


def _shown(value: Any) -> str:
    if isinstance(value, tuple) and isinstance(value[0], Lora):
        return " ".join(f"{lora.role}={lora.origin}:{lora.scale:g}".removeprefix("=") for lora in value)
    return format_parameter(value)


def _value(key: str, text: str) -> Any:
    if key in WISHES:
        return text
    if key == "lora":
        return loras.bring(open_store(), map(loras.parse, text.split()), quiet)
    if key == "negative":
        return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text
    if key == "seconds":
        try:
            return click.FLOAT(text)
        except click.BadParameter as error:
            raise InvalidRequest(f"seconds: {error.message}") from error
    return parse_parameter(key, text)
