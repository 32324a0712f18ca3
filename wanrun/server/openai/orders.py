"""Turns what a client asks for in OpenAI's words into an order.

``guidance_scale`` is that of the first expert, at high noise, and ``guidance_scale_2`` that of the second, as
in diffusers (pipelines/wan/pipeline_wan.py); without the second, both have the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from wanrun.server.job import Order
from wanrun.server.openai.asked import Asked, AskedImage, AskedVideo
from wanrun.server.service import Service

#: OpenAI's, sglang's and vLLM-Omni's words for our parameters.
WORDS: Mapping[str, str] = MappingProxyType(
    {
        "size": "size",
        "seconds": "seconds",
        "num_frames": "frames",
        "fps": "fps",
        "negative_prompt": "negative",
        "num_inference_steps": "steps",
        "guidance_scale": "guidance",
        "guidance_scale_2": "guidance_low",
        "flow_shift": "shift",
        "boundary_ratio": "boundary",
        "seed": "seed",
        "sampler": "sampler",
        "schedule": "schedule",
        "guidance_start": "guidance_start",
        "guidance_end": "guidance_end",
        "guidance_rescale": "guidance_rescale",
        "cache": "cache",
        "noise": "noise",
        "cross_frame": "cross_frame",
        "compose": "compose",
        "flicker": "flicker",
        "expand": "expand",
        "precision": "precision",
        "decoder": "decoder",
    }
)


#: OpenAI's words for levels of quality.
LEVELS: Mapping[str, str | None] = MappingProxyType(
    {"low": "draft", "medium": "good", "high": "best", "standard": "good", "hd": "best", "auto": None}
)


def video_order(service: Service, asked: AskedVideo, key: str | None) -> Order:
    """The order for a video; raises ModelNotFound, and InvalidRequest for what the model cannot do."""
    return _order(service, asked, _parameters(asked), key, asked.format)


def image_orders(service: Service, asked: AskedImage, key: str | None) -> list[Order]:
    """One order for a video of one frame for each image; raises as ``video_order``."""
    orders = []
    for index in range(asked.n or 1):
        parameters = _parameters(asked) | {"frames": 1}
        if asked.seed is not None:
            parameters["seed"] = (asked.seed + index) % 2**32
        numbered = None if key is None else f"{key}#{index}"
        orders.append(_order(service, asked, parameters, numbered))
    return orders


def _order(
    service: Service, asked: Asked, parameters: dict[str, Any], key: str | None, format: str = "mp4"
) -> Order:
    request = service.request(asked.model, asked.prompt, parameters)
    sent = asked.model_dump(exclude_none=True, exclude={"user"})
    return Order(asked.model, request, asked.priority, key, sent, format)


def _parameters(asked: Asked) -> dict[str, Any]:
    """What was asked for, in our words."""
    given = asked.model_dump(exclude_none=True)
    named = {ours: given[theirs] for theirs, ours in WORDS.items() if theirs in given}
    quality = LEVELS.get(asked.quality or "auto", asked.quality)
    return named | {"lora": asked.lora, "target": asked.target, "quality": quality}
