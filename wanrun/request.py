"""Turns a prompt and what the user asked for into a request that the bundle can fulfil.

Every mistake is reported at once. Sizes and frame counts that the model cannot do become the nearest that it
can, and the request's notes say so.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Any

from wanrun import options, plugins
from wanrun.errors import InvalidRequest, WanrunError
from wanrun.gguf.header import read_header
from wanrun.modelfile.parameters import find_parameter, format_parameter, parse_parameter
from wanrun.types import Bundle, GenerationRequest
from wanrun.wan.detect import Identity, identify

_TEMPORAL_STRIDE = 4
_PROMPT = re.compile(r"\{\{\s*prompt\s*\}\}")
_PROMPT_LIMIT = 1_000_000


def resolve(bundle: Bundle, prompt: str, asked: Mapping[str, Any]) -> GenerationRequest:
    """The request for ``prompt`` with the parameters ``asked`` for over the bundle's own.

    ``asked`` may hold every parameter of a Modelfile, and ``negative`` and ``seconds``. Raises InvalidRequest
    with all mistakes.
    """
    problems: list[str] = []
    values = dict(bundle.parameters) | _checked(asked, problems)
    for group, key in (("samplers", "sampler"), ("schedules", "schedule")):
        if key in values:
            try:
                plugins.options_of(group, str(values[key]))
            except WanrunError as error:
                problems.append(f"{key} {error}")
    # decoders may stand in for each other: vae+tiny
    for name in str(values["decoder"]).split("+") if "decoder" in values else []:
        if name not in plugins.names("decoders"):
            problems.append(
                f"decoder {name!r} is not known; there are {', '.join(plugins.names('decoders'))}"
            )
    if len(prompt) > _PROMPT_LIMIT:
        problems.append(f"the prompt has {len(prompt)} characters; at most {_PROMPT_LIMIT} are read")
    identity = identify(read_header(next(iter(bundle.experts.values())).path))
    if identity.latent_channels != identity.in_channels:
        problems.append(
            f"{bundle.name} animates a picture ({identity.variant}): it cannot start from words alone"
        )
    decoder = str(values.get("decoder", "vae"))
    if "tiny" in decoder.split("+") and "preview" not in bundle.components:
        problems.append(
            f"{bundle.name} has no tiny decoder (a PREVIEW line in its Modelfile); use the decoder vae"
        )
    if problems:
        raise InvalidRequest("\n".join(problems))
    values["decoder"] = decoder
    values["prompt"] = _PROMPT.sub(lambda _: prompt, bundle.template)
    values["negative"] = bundle.negative if asked.get("negative") is None else str(asked["negative"])
    values["seconds"] = asked.get("seconds")
    return _rounded(values, identity, two_experts=len(bundle.experts) == 2)


def _checked(asked: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """What was asked for as parameters of the closed list, each within its range."""
    values: dict[str, Any] = {}
    for name, value in asked.items():
        if value is None or name == "negative":
            continue
        try:
            if name == "seconds":
                values[name] = _positive(value)
                continue
            find_parameter(name)
            values[name] = parse_parameter(name, value if isinstance(value, str) else format_parameter(value))
        except WanrunError as error:
            problems.append(str(error))
    if "seconds" in values and "frames" in values:
        problems.append("give frames or seconds, not both")
    if "guidance" in values:
        # one scale for both experts, unless one of them is named as well
        values = {"guidance_high": values["guidance"], "guidance_low": values["guidance"]} | values
    return values


def _positive(value: Any) -> float:
    seconds = float(value)
    if not 0 < seconds <= 600:
        raise InvalidRequest(f"seconds must be above 0 and at most 600, not {value}")
    return seconds


def _rounded(values: Mapping[str, Any], identity: Identity, two_experts: bool) -> GenerationRequest:
    notes: list[str] = []
    channels = identity.latent_channels or 16
    stride = 16 if channels == 48 else 8
    width, height = (_nearest(side, 2 * stride) for side in values["size"])
    if (width, height) != tuple(values["size"]):
        notes.append(
            f"size {format_parameter(values['size'])} becomes {width}x{height}: "
            f"sides are multiples of {2 * stride}"
        )
    fps = int(values["fps"])
    wanted = round(values["seconds"] * fps) if values["seconds"] is not None else int(values["frames"])
    frames = 1 + _TEMPORAL_STRIDE * max(0, round((wanted - 1) / _TEMPORAL_STRIDE))
    if frames != wanted:
        notes.append(f"{wanted} frames become {frames}: the model makes 4k+1")
    sampler = str(values.get("sampler", "unipc"))
    own = "unipc" if options.parse(sampler).name == "unipc" else "linear"
    schedule = str(values.get("schedule", own))
    steps = _steps(schedule, int(values["steps"]), float(values["shift"]))
    if steps != values["steps"]:
        notes.append(f"{values['steps']} steps become {steps}: as many as the schedule has")
    guidance = float(values.get("guidance", 1.0))
    seed = values.get("seed")
    return GenerationRequest(
        prompt=values["prompt"],
        negative=values["negative"],
        width=width,
        height=height,
        frames=frames,
        fps=fps,
        steps=steps,
        shift=float(values["shift"]),
        boundary=float(values["boundary"]) if two_experts else None,
        sampler=sampler,
        schedule=schedule,
        guidance_high=float(values.get("guidance_high", guidance)),
        guidance_low=float(values.get("guidance_low", guidance)),
        seed=secrets.randbits(32) if seed is None else int(seed),
        precision=str(values.get("precision", "auto")),
        decoder=values["decoder"],
        latent_shape=(channels, (frames - 1) // _TEMPORAL_STRIDE + 1, height // stride, width // stride),
        notes=tuple(notes),
    )


def _steps(schedule: str, steps: int, shift: float) -> int:
    """How many steps the schedule has, which a written list decides itself; raises as the schedule does."""
    return len(plugins.bind("schedules", schedule)(steps, shift)) - 1


def _nearest(side: int, multiple: int) -> int:
    return max(multiple, multiple * round(side / multiple))
