"""What a client may ask for, each field with its range: the request bodies of OpenAI's API."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from wanrun.options import LENGTH_LIMIT
from wanrun.server.job import PRIORITIES
from wanrun.server.loras import Loras

_SIDE = "(1[6-9]|[2-9][0-9]|[1-9][0-9]{2}|[1-3][0-9]{3}|40[0-8][0-9]|409[0-6])"
_LONGEST_S = 600


def _seconds(value: float | str) -> float:
    """The SDK sends "4", others send 4."""
    seconds = float(value)
    if not 0 < seconds <= _LONGEST_S:
        raise PydanticCustomError("range", f"must be above 0 and at most {_LONGEST_S}")
    return seconds


def _refused(reason: str) -> BeforeValidator:
    """A field that other servers know and that cannot be used here, for ``reason``."""

    def refuse(value: Any) -> None:
        if value is not None:
            raise PydanticCustomError("unsupported", "is not supported: " + reason)

    return BeforeValidator(refuse)


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


#: To JSON Schema, 16.0 is an integer.
_WHOLE = BeforeValidator(_whole)
Seconds = Annotated[
    Annotated[float, Field(gt=0, le=_LONGEST_S)]
    | Annotated[str, Field(pattern=r"^[0-9]{1,3}(\.[0-9]{1,6})?$")],
    AfterValidator(_seconds),
]
Prompt = Annotated[str, Field(min_length=1, max_length=32_000, description="What the video shows.")]
Model = Annotated[str, Field(min_length=1, max_length=512, description="A model of GET /v1/models.")]
Size = Annotated[str, Field(pattern=f"^{_SIDE}x{_SIDE}$", examples=["64x64"])]


class Asked(BaseModel):
    """What videos and images have in common; whatever is left out is the model's own setting."""

    # a name with a slip of the pen must not be taken for one that was left out
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    model: Model
    prompt: Prompt
    size: Size | None = Field(
        None, description="WIDTHxHEIGHT, each 16 to 4096 pixels; sides become multiples of 16 or 32."
    )
    negative_prompt: Annotated[str, Field(max_length=32_000)] | None = Field(
        None, description="What the video should not show."
    )
    num_inference_steps: Annotated[int, Field(ge=1, le=1000), _WHOLE] | None = Field(
        None, description="Denoising steps."
    )
    guidance_scale: Annotated[float, Field(ge=0, le=50)] | None = Field(
        None,
        description="Classifier-free guidance of the high-noise expert (guidance_high), and of the low-noise "
        "one, too, unless guidance_scale_2 is given. 1 is off.",
    )
    guidance_scale_2: Annotated[float, Field(ge=0, le=50)] | None = Field(
        None, description="Classifier-free guidance of the low-noise expert (guidance_low), as in diffusers."
    )
    flow_shift: Annotated[float, Field(ge=0.001, le=100)] | None = Field(
        None, description="How far the noise schedule leans to high noise (shift)."
    )
    boundary_ratio: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="Noise level, 0 to 1, at which the low-noise expert takes over (boundary)."
    )
    seed: Annotated[int, Field(ge=0, le=2**32 - 1), _WHOLE] | None = Field(
        None, description="Seed of the noise; drawn if it is left out."
    )
    sampler: Annotated[str, Field(max_length=LENGTH_LIMIT)] | None = Field(
        None, description="A sampler plugin, with its options: ddim:eta=0.5."
    )
    schedule: Annotated[str, Field(max_length=LENGTH_LIMIT)] | None = Field(
        None, description="A schedule plugin, with its options: custom:1,0.9,0.4,0."
    )
    guidance_start: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="Noise level, 0 to 1, from which on guidance is used."
    )
    guidance_end: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="Noise level, 0 to 1, below which guidance is not used."
    )
    guidance_rescale: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="How far guidance keeps the spread of the conditional prediction."
    )
    cache: Annotated[str, Field(max_length=LENGTH_LIMIT)] | None = Field(
        None, description="A step cache, with its options: easycache:threshold=0.1; none computes every step."
    )
    noise: Annotated[str, Field(max_length=LENGTH_LIMIT)] | None = Field(
        None, description="How the frames' noise hangs together: iid, mixed:alpha=1, progressive:alpha=2."
    )
    cross_frame: Annotated[float, Field(ge=0, le=10)] | None = Field(
        None, description="Strengthens attention across frames; 0 is off."
    )
    compose: Annotated[float, Field(ge=0, le=10)] | None = Field(
        None, description="Extra guidance to the nouns of a prompt of several objects; 0 is none."
    )
    flicker: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="How far still areas are smoothed in time after decoding; 0 is off."
    )
    expand: Annotated[str, Field(max_length=LENGTH_LIMIT)] | None = Field(
        None,
        description="An expander that adds to the prompt, with its options: template, llama; none is off.",
    )
    precision: Literal["auto", "fp32", "bf16", "int8"] | None = Field(
        None, description="Arithmetic of the model."
    )
    decoder: Annotated[str, Field(max_length=64)] | None = Field(
        None, description="A decoder plugin: vae, tiny, or vae+tiny."
    )
    target: Annotated[float, Field(gt=0, le=2_592_000)] | None = Field(
        None, description="Seconds that the video may take; settings that are not given follow."
    )
    quality: Literal["draft", "good", "best", "low", "medium", "high", "standard", "hd", "auto"] | None = (
        Field(
            None,
            description="How good it is to be, and no slower than that takes; settings that are not given "
            "follow. OpenAI's low, medium and high are draft, good and best; standard and hd good and best.",
        )
    )
    lora: Loras = Field((), description="LoRAs for this video alone, besides the model's own.")
    priority: Annotated[int, Field(ge=PRIORITIES[0], le=PRIORITIES[-1]), _WHOLE] = Field(
        0, description="Jobs of higher priority are done first."
    )
    user: Annotated[str, Field(max_length=512)] | None = Field(None, description="Ignored.")


class AskedVideo(Asked):
    """The body of POST /v1/videos, as JSON or as multipart/form-data."""

    seconds: Seconds | None = Field(
        None, description="Length; a number, or the same as text. Not together with num_frames."
    )
    num_frames: Annotated[int, Field(ge=1, le=1025), _WHOLE] | None = Field(
        None, description="Number of frames; the nearest 4k+1 is made. Not together with seconds."
    )
    fps: Annotated[int, Field(ge=1, le=240), _WHOLE] | None = Field(None, description="Frames a second.")
    format: Literal["mp4", "webm", "gif"] = Field("mp4", description="The file to make.")
    input_reference: Annotated[None, _refused("videos are made from words alone")] = Field(
        None, description="Not supported: videos are made from words alone."
    )


class AskedImage(Asked):
    """The body of POST /v1/images/generations."""

    n: Annotated[int, Field(ge=1, le=10), _WHOLE] | None = Field(
        None, description="Number of images; with a seed, they have seed, seed + 1, …"
    )
    response_format: Literal["b64_json", "url"] | None = Field(
        None, description="b64_json, the default: in the answer; url: to be fetched from this server."
    )
    output_format: Literal["png", "jpeg", "webp"] | None = Field(
        None, description="The images' format; png by default."
    )
