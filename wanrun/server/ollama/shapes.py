"""What Ollama's clients send and get, where several routes share it.

Fields that Ollama does not know are ignored, and ``null`` is the same as nothing, as in Ollama.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from wanrun.errors import InvalidRequest, ModelNotFound
from wanrun.server.service import Service
from wanrun.store import creation, manifests
from wanrun.store.names import PATTERN, Name, parse_name
from wanrun.store.store import Store
from wanrun.types import Bundle


class Asked(BaseModel):
    """The body of a request: JSON of exactly these types."""

    model_config = ConfigDict(strict=True, populate_by_name=True)


def _needs_a_model(schema: dict[str, Any]) -> None:
    """One of the two has to be there; the document has the one that clients should send."""
    del schema["properties"]["name"]
    described = schema["properties"]["model"]
    schema["properties"]["model"] = {"type": "string", "maxLength": 512, "pattern": PATTERN} | {
        key: described[key] for key in ("title", "description")
    }
    schema["required"] = ["model", *schema.get("required", ())]


class Named(Asked):
    """A request that names a model; older clients call it ``name``."""

    model_config = ConfigDict(json_schema_extra=_needs_a_model)

    model: str | None = Field(None, max_length=512, description="A model's name.")
    name: str | None = Field(None, max_length=512, description="Older spelling of model.")

    @property
    def wanted(self) -> str:
        """The model's name as it was sent, "" for none."""
        return self.model or self.name or ""


class Failure(BaseModel):
    """What went wrong."""

    error: str


class Details(BaseModel):
    """What kind of model it is."""

    parent_model: str = ""
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


#: For the OpenAPI document: what every route may answer.
FAILURES: dict[int | str, dict[str, Any]] = {
    "default": {"model": Failure, "description": "What went wrong, in words."}
}


def parsed(text: str, problem: str = "invalid model name") -> Name:
    """The name that ``text`` is; InvalidRequest with ``problem`` when it is none."""
    try:
        return parse_name(text)
    except InvalidRequest:
        raise InvalidRequest(problem) from None


def found(store: Store, text: str, problem: str = "invalid model name") -> Name:
    """The name of a model of the store; ModelNotFound in Ollama's words when there is none."""
    name = parsed(text, problem)
    if not manifests.manifest_path(store.manifests, name).is_file():
        raise missing(text)
    return name


def found_or_shipped(service: Service, text: str) -> Bundle:
    """The model ``text``, made first if it is shipped whole; raises as ``found``."""
    try:
        return service.bundle(str(parsed(text)))
    except ModelNotFound:
        raise missing(text) from None


def missing(text: str) -> ModelNotFound:
    """The error for a model that is not there, as it was asked for."""
    known = creation.shipped(parse_name(text)) is not None
    hint = ": it is known, and has to be pulled first" if known else ""
    return ModelNotFound(f"model '{text}' not found{hint}")


def stamp(seconds: float) -> str:
    """RFC 3339 of a time in seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def nanoseconds(seconds: float) -> int:
    """A duration as Ollama writes it."""
    return max(0, round(seconds * 1e9))
