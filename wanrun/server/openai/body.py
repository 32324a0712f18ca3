"""Reads a request's body, JSON or a form, into what it asks for."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData

from wanrun.errors import InvalidParameter
from wanrun.server.document import REFERENCE

_FORM = "multipart/form-data"
_MOST_FIELDS = 64
_MOST_FIELD_BYTES = 1 << 20

Asked = TypeVar("Asked", bound=BaseModel)


async def read(request: Request, model: type[Asked]) -> Asked:
    """The body as ``model``; InvalidParameter for the first mistake, with the name nearest to an unknown one.

    All that is no form is JSON, whatever its type is said to be: curl says that it is a form.
    """
    try:
        if request.headers.get("content-type", "").startswith(_FORM):
            async with request.form(
                max_files=1, max_fields=_MOST_FIELDS, max_part_size=_MOST_FIELD_BYTES
            ) as form:
                return model.model_validate_strings(_fields(form))
        body = await request.body()
        if not body.strip():
            raise InvalidParameter(None, "missing request body")
        return model.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise _explained(error, model) from error


def body_schema(model: type[BaseModel], *, form: bool) -> dict[str, Any]:
    """The OpenAPI description of a body that ``read`` takes; see ``wanrun.server.document`` for ``$defs``."""
    content = {"application/json": {"schema": model.model_json_schema(ref_template=REFERENCE)}}
    if form:
        content[_FORM] = {"schema": _of_a_form(model.model_json_schema(ref_template=REFERENCE))}
    return {"requestBody": {"required": True, "content": content}}


def _of_a_form(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema where all is text, so that nothing can be null."""
    for field in schema["properties"].values():
        kinds = [kind for kind in field.pop("anyOf", ()) if kind != {"type": "null"}]
        field |= {"anyOf": kinds} if kinds else {}
    return schema


def _fields(form: FormData) -> dict[str, str | dict[str, str]]:
    """Every field's text; a file's name stands for it, and all ``name[key]`` are the one field ``name``."""
    fields: dict[str, str | dict[str, str]] = {}
    for key, value in form.multi_items():
        name, bracket, inner = key.partition("[")
        text = value if isinstance(value, str) else value.filename or "a file"
        parts = fields.setdefault(name, {}) if bracket else {}
        inner = inner.removesuffix("]")
        if not isinstance(parts, dict) or inner in parts or (not bracket and name in fields):
            raise InvalidParameter(name, f"{_shown(name)} is given twice")
        if bracket:
            parts[inner] = text
        else:
            fields[name] = text
    return fields


def _explained(error: ValidationError, model: type[BaseModel]) -> InvalidParameter:
    first = error.errors(include_url=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        return InvalidParameter(None, f"the body is not JSON: {first['msg']}")
    if not first["loc"]:
        return InvalidParameter(None, "the body must be a JSON object")
    name = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        return InvalidParameter(
            name, f"unknown parameter {_shown(name)}: {_nearest(name, model.model_fields)}"
        )
    if first["type"] == "missing":
        return InvalidParameter(name, f"{name} is required")
    if first["type"] == "string_pattern_mismatch":
        expected = (model.model_fields[name].description or "").partition(";")[0]
        return InvalidParameter(name, f"{name} must be {expected}{_given(first['input'])}")
    message = first["msg"].removeprefix("Input ").removeprefix("should ")
    said = message if message.startswith(("is ", "must ")) else f"must {message[:1].lower()}{message[1:]}"
    return InvalidParameter(name, f"{name} {said}{_given(first['input'])}")


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name[:64].lower(), known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"


def _given(value: Any) -> str:
    return f", not {value!r:.60}" if isinstance(value, str | int | float) else ""


def _shown(name: str) -> str:
    return repr(name if len(name) <= 60 else name[:57] + "…")
