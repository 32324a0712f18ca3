"""Turns a prompt and what the user asked for into a request that the bundle can fulfil.

Every mistake is reported at once. Sizes and frame counts that the model cannot do become the nearest that it
can, and the request's notes say so.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from wanrun import options, plugins, settings
from wanrun.errors import InvalidRequest, WanrunError
from wanrun.gguf.header import read_header
from wanrun.modelfile.adapters import check_adapters
from wanrun.modelfile.check import Candidate
from wanrun.modelfile.parameters import PARAMETERS, find_parameter, format_parameter, parse_parameter
from wanrun.prompts import choices, markup
from wanrun.store.loras import with_loras
from wanrun.types import Bundle, GenerationRequest, Lora
from wanrun.wan.detect import Identity, identify

_TEMPORAL_STRIDE = 4
#: Parameters that name a plugin of a group, with its options, and what they say to use none.
_PLUGINS = (
    ("samplers", "sampler"),
    ("schedules", "schedule"),
    ("step_caches", "cache"),
    ("noises", "noise"),
    ("expanders", "expand"),
)
_INTERVAL = (("guidance_start", 1.0), ("guidance_end", 0.0))
_WITHOUT = {"cache": "none", "noise": "iid", "expand": "none"}
_PROMPT = re.compile(r"\{\{\s*prompt\s*\}\}")
_PROMPT_LIMIT = 1_000_000


def resolve(bundle: Bundle, prompt: str, asked: Mapping[str, Any]) -> GenerationRequest:
    """The request for ``prompt`` with the parameters ``asked`` for over the bundle's own.

    ``asked`` may hold every parameter of a Modelfile, ``negative``, ``seconds``, and in ``lora`` adapters of
    the store (``wanrun.store.loras``). Raises InvalidRequest with all mistakes.
    """
    problems: list[str] = []
    values = dict(bundle.parameters) | _checked(asked, problems)
    if "cache" in values:
        values["cache"] = _calibrated(str(values["cache"]), values)
    for group, key in _PLUGINS:
        if key in values and values[key] != _WITHOUT.get(key):
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
    if values.get("expand", "").partition(":")[0] == "llama" and "expander" not in bundle.components:
        problems.append(
            f"{bundle.name} has no language model (EXPANDER in its Modelfile) for the expander llama: "
            "use the expander template"
        )
    start, end = (float(values.get(name, usual)) for name, usual in _INTERVAL)
    if start <= end:
        problems.append(f"guidance_start {start:g} must be above guidance_end {end:g}: noise falls")
    loras = tuple(asked.get("lora") or ())
    left_out = _left_out(bundle, loras, problems)
    if problems:
        raise InvalidRequest("\n".join(problems))
    values["decoder"] = decoder
    values.setdefault("seed", secrets.randbits(32))
    values |= _texts(bundle, prompt, asked.get("negative"), int(values["seed"]))
    values["seconds"] = asked.get("seconds")
    request = _rounded(values, identity, two_experts=len(bundle.experts) == 2)
    return replace(request, lora=loras, notes=(*request.notes, *left_out))


def _texts(bundle: Bundle, prompt: str, negative: str | None, seed: int) -> dict[str, str]:
    """The prompts as they are encoded, and what was typed where the seed chose words in it."""
    filled = chosen_words(prompt, seed)
    texts = {
        "prompt": _PROMPT.sub(lambda _: filled, bundle.template),
        "negative": bundle.negative if negative is None else chosen_words(str(negative), seed),
        "written": "" if filled == prompt else prompt,
    }
    markup.parse(texts["prompt"])
    markup.parse(texts["negative"])
    return texts


def chosen_words(prompt: str, seed: int) -> str:
    """``prompt`` with what it leaves to its seed, from the lists in the home's folder ``words``.

    Done twice, it is the same. Raises InvalidRequest for what is in no list.
    """
    words = choices.load_words(settings.home() / "words") if choices.uses_words(prompt) else {}
    return choices.fill(prompt, seed, words)


def _left_out(bundle: Bundle, loras: Sequence[Lora], problems: list[str]) -> list[str]:
    """What of the request's LoRAs means nothing to the model; a problem is noted for each that cannot be."""
    if not loras:
        return []
    try:
        adapters = [
            Candidate(each.role, each.component.path, each.component.origin)
            for each in with_loras(bundle, loras).adapters
        ]
        experts = {role: Candidate(role, part.path, part.origin) for role, part in bundle.experts.items()}
        layouts = check_adapters(adapters, experts)
    except WanrunError as error:
        problems.append(str(error))
        return []
    named = zip(loras, layouts[len(bundle.adapters) :], strict=True)
    return [f"{lora.origin}: {layout.note}" for lora, layout in named if layout.note is not None]


def _calibrated(cache: str, values: Mapping[str, Any]) -> str:
    """``cache`` with what was measured of the model for it, unless it brings numbers of its own."""
    named = options.parse(cache)
    if named.values or named.name not in values or named.name not in PARAMETERS:
        return cache
    numbers = tuple(str(values[named.name]).split(","))
    return str(options.Named(named.name, numbers, named.options))


def _checked(asked: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """What was asked for as parameters of the closed list, each within its range."""
    values: dict[str, Any] = {}
    for name, value in asked.items():
        if value is None or name in ("negative", "lora"):
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
        seed=int(values["seed"]),
        precision=str(values.get("precision", "auto")),
        decoder=values["decoder"],
        latent_shape=(channels, (frames - 1) // _TEMPORAL_STRIDE + 1, height // stride, width // stride),
        notes=tuple(notes),
        guidance_start=float(values.get("guidance_start", 1.0)),
        guidance_end=float(values.get("guidance_end", 0.0)),
        guidance_rescale=float(values.get("guidance_rescale", 0.0)),
        cache=str(values.get("cache", "none")),
        noise=str(values.get("noise", "iid")),
        cross_frame=float(values.get("cross_frame", 0.0)),
        flicker=float(values.get("flicker", 0.0)),
        written=values["written"],
        expand=str(values.get("expand", "none")),
        compose=float(values.get("compose", 0.0)),
    )


def _steps(schedule: str, steps: int, shift: float) -> int:
    """How many steps the schedule has, which a written list decides itself; raises as the schedule does."""
    return len(plugins.bind("schedules", schedule)(steps, shift)) - 1


def _nearest(side: int, multiple: int) -> int:
    return max(multiple, multiple * round(side / multiple))
