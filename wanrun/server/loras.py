"""Reads the LoRAs that a client asks for, as text or as objects."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, ValidationError
from pydantic_core import PydanticCustomError

from wanrun.errors import InvalidRequest
from wanrun.store.loras import Wanted, parse

_MOST = 16


class AskedLora(BaseModel):
    """A LoRA that the server has."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: str = Field(
        min_length=1,
        max_length=200,
        description="A file of the server's folder (WANRUN_LORAS), a digest of /api/blobs, or a model whose "
        "adapters are meant; never a path.",
    )
    scale: float = Field(1.0, ge=-100, le=100, description="How strongly it is applied.")
    role: str = Field("", pattern="^(|high_noise|low_noise)$", description="An expert; empty for all.")
    title: str = Field("", max_length=200, description="What a digest's file is called, for people.")


def read(value: Any) -> tuple[Wanted, ...]:
    """What is asked for by one LoRA or a list of them, each an object or ``[EXPERT=]NAME[:SCALE]``.

    A text may name several, with commas between them. Raises InvalidRequest.
    """
    if value is None:
        return ()
    each = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else [value]
    if len(each) > _MOST:
        raise InvalidRequest(f"at most {_MOST} LoRAs can be applied, not {len(each)}")
    return tuple(map(_one, each))


def _one(value: Any) -> Wanted:
    if isinstance(value, str):
        return parse(value)
    try:
        asked = AskedLora.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidRequest(f"lora: {where or 'each'}: {first['msg']}") from error
    return Wanted(asked.name, asked.role, asked.scale, asked.title)


def _validated(value: Any) -> tuple[Wanted, ...]:
    try:
        return read(value)
    except InvalidRequest as error:
        raise PydanticCustomError("lora", "is wrong: {reason}", {"reason": str(error)}) from error


#: A field of a body.
Loras = Annotated[
    tuple[Wanted, ...],
    PlainValidator(_validated, json_schema_input_type=AskedLora | str | list[AskedLora | str] | None),
    PlainSerializer(lambda wanted: [asdict(each) for each in wanted]),
]
