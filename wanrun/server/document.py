"""The application with an OpenAPI document that is true of it."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

#: Where schemas refer to: the document has one place for those that several have in common.
REFERENCE = "#/components/schemas/{model}"
_NOT_OURS = ("HTTPValidationError", "ValidationError")


class Documented(FastAPI):
    """FastAPI documents a 422 of its own for routes with parameters; ours answer 400 in their own form."""

    def openapi(self) -> dict[str, Any]:
        """The document, without what is never answered."""
        document = super().openapi()
        schemas = document.get("components", {}).get("schemas", {})
        for path in document.get("paths", {}).values():
            for operation in path.values():
                if _is_default(operation["responses"].get("422")):
                    del operation["responses"]["422"]
                for content in operation.get("requestBody", {}).get("content", {}).values():
                    schemas |= content["schema"].pop("$defs", {})
        for name in _NOT_OURS:
            schemas.pop(name, None)
        return document


def _is_default(response: dict[str, Any] | None) -> bool:
    return response is not None and _NOT_OURS[0] in str(response)
