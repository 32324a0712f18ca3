"""What a client may ask a video of, in Ollama's words and a Modelfile's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from wanrun import settings
from wanrun.errors import InvalidRequest
from wanrun.modelfile.parameters import PARAMETERS, find_parameter, format_parameter
from wanrun.runtime.advised import WISHES
from wanrun.server import loras
from wanrun.server.loras import Loras
from wanrun.server.ollama.shapes import Named
from wanrun.types import Bundle

_OF_LANGUAGE = (
    "num_ctx num_batch num_gpu main_gpu num_thread num_keep num_predict use_mmap use_mlock numa low_vram "
    "f16_kv logits_all vocab_only embedding_only top_k top_p min_p tfs_z typical_p repeat_last_n stop "
    "temperature repeat_penalty presence_penalty frequency_penalty mirostat mirostat_tau mirostat_eta "
    "penalize_newline"
)
#: Ollama's options for language models, which mean nothing here; its clients send them.
_IGNORED = frozenset(_OF_LANGUAGE.split())
_FOR_EVER_S = -1.0
#: Ollama's longest duration, some 292 years.
_LONGEST_S = 2**63 / 1e9

Number = int | float


class AskedVideo(Named):
    """A video of ``prompt``. Whatever is left out is the model's own setting; 0 is the same as nothing."""

    prompt: str | None = Field(None, description="What the video shows; nothing loads the model.")
    width: int | None = Field(None, description="Pixels.")
    height: int | None = Field(None, description="Pixels.")
    steps: int | None = Field(None, description="Denoising steps.")
    frames: int | None = Field(None, description="Frames; the nearest 4k+1 is made.")
    fps: int | None = Field(None, description="Frames a second.")
    seconds: Number | None = Field(None, description="Length, instead of frames.")
    negative_prompt: str | None = Field(None, description="What the video must not show.")
    guidance: Number | None = Field(None, description="Classifier-free guidance scale; 1 is off.")
    guidance_scale: Number | None = Field(None, description="The same as guidance.")
    guidance_high: Number | None = Field(None, description="Guidance of the high-noise expert.")
    guidance_low: Number | None = Field(None, description="Guidance of the low-noise expert.")
    guidance_start: Number | None = Field(None, description="Sigma from which on guidance is used.")
    guidance_end: Number | None = Field(None, description="Sigma below which guidance is not used.")
    guidance_rescale: Number | None = Field(None, description="How far guidance keeps the spread, 0 to 1.")
    shift: Number | None = None
    boundary: Number | None = None
    sampler: str | None = None
    schedule: str | None = None
    cache: str | None = Field(None, description="A step cache: easycache:threshold=0.1.")
    noise: str | None = Field(None, description="How the frames' noise hangs together: mixed:alpha=1.")
    cross_frame: Number | None = Field(None, description="Strengthens attention across frames; 0 is off.")
    compose: Number | None = Field(None, description="Extra guidance to the nouns of several objects.")
    flicker: Number | None = Field(None, description="How far still areas are smoothed in time, 0 to 1.")
    precision: str | None = None
    decoder: str | None = None
    expand: str | None = Field(None, description="An expander of the prompt: template, llama; none is off.")
    seed: int | None = None
    options: dict[str, Any] | None = Field(
        None, description="The same settings; what Ollama has for language models is ignored."
    )
    target: Number | str | None = Field(
        None, description="How long the video may take: seconds, or a duration such as 60s; settings follow."
    )
    quality: str | None = Field(
        None, description="draft, good or best, and no slower than that takes; settings follow."
    )
    lora: Loras = Field((), description="LoRAs for this video alone, besides the model's own.")
    images: list[str] | None = Field(None, description="Not supported: videos are made from words alone.")

    def parameters(self, bundle: Bundle) -> dict[str, Any]:
        """What is asked for as ``wanrun.request.resolve`` takes it; InvalidRequest for what never can be."""
        if self.images:
            raise InvalidRequest(f"'{self.wanted}' does not support images: videos are made from words alone")
        given = {name: value for name, value in (self.options or {}).items() if name not in _IGNORED}
        lora = self.lora or loras.read(given.pop("lora", None))
        top = self.model_dump(
            exclude_none=True,
            exclude={"model", "name", "prompt", "options", "images", "lora", *_NOT_SETTINGS},
        )
        given |= {name: value for name, value in top.items() if value != 0 or name not in _ZERO_IS_NOTHING}
        asked = {key: value for key, value in in_our_words(given, bundle).items() if value is not None}
        return asked | {"lora": lora}


#: Fields of requests that build on this one and are about something else than the video.
_NOT_SETTINGS = ("stream", "keep_alive", "job", "priority", "format")
#: Go leaves out what is zero, and others send it for nothing.
_ZERO_IS_NOTHING = ("width", "height", "steps", "frames", "fps", "seconds")


def in_our_words(given: Mapping[str, Any], bundle: Bundle) -> dict[str, Any]:
    """Settings by any name that a client may give them, as ``wanrun.request.resolve`` takes them.

    Raises InvalidRequest for a name or a type that is none; ranges are looked at later.
    """
    asked: dict[str, Any] = {}
    for name, value in given.items():
        if name in ("width", "height"):
            continue
        ours = {"negative_prompt": "negative", "guidance_scale": "guidance"}.get(name, name)
        if ours not in ("negative", "seconds", *WISHES):
            ours = find_parameter(ours).name
        asked.setdefault(ours, _checked(ours, value))
    if "width" in given or "height" in given:
        usual = bundle.parameters["size"]
        sides = (given.get("width", usual[0]), given.get("height", usual[1]))
        if not all(type(side) is int for side in sides):
            raise InvalidRequest("width and height must be whole numbers of pixels")
        asked["size"] = format_parameter(sides)
    return asked


def _checked(name: str, value: Any) -> Any:
    """``value`` if it is of a type that a parameter can have: whether it is in range is looked at later."""
    if value is None:
        return None
    if name == "negative":
        if isinstance(value, str):
            return value
        raise InvalidRequest("negative_prompt must be text")
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if name in WISHES:
        if number or isinstance(value, str):
            return value
        raise InvalidRequest(f"{name} must be text" if name == "quality" else "target must be a duration")
    if name == "seconds":
        if number:
            return value
        raise InvalidRequest("seconds must be a number")
    if number or isinstance(value, str):
        return value
    raise InvalidRequest(f"{name} must be {PARAMETERS[name].expects}")


def keep_alive_s(value: int | float | str | None) -> float | None:
    """The seconds of Ollama's ``keep_alive``: a number of them, or a Go duration; negative for ever.

    None for nothing. Raises InvalidRequest.
    """
    if value is None:
        return None
    seconds = settings.parse_duration(value, "keep_alive") if isinstance(value, str) else float(value)
    return min(seconds, _LONGEST_S) if seconds >= 0 else _FOR_EVER_S
