"""Turns what a command was given into a request, whatever it takes to find the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from wanrun import settings
from wanrun.types import Bundle, GenerationRequest


def resolved(
    bundle: Bundle, prompt: str, asked: Mapping[str, Any], device: str | None, memory: int | None
) -> tuple[GenerationRequest, Mapping[str, Any]]:
    """The request, and what was asked for with the settings that a target or a level of quality became."""
    from wanrun.request import resolve

    if asked.get("target") is None and asked.get("quality") is None:
        plain = {name: value for name, value in asked.items() if name not in ("target", "quality")}
        return resolve(bundle, prompt, plain), plain
    from wanrun.runtime.advised import advise

    settled, choice = advise(bundle, prompt, asked, device or settings.get("device"), memory)
    request = resolve(bundle, prompt, settled)
    notes = request.notes if choice is None else (*request.notes, choice.text)
    return replace(request, notes=notes), settled
