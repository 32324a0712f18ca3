"""The application with an OpenAPI document that is true of it."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

_NOT_OURS = ("HTTPValidationError", "ValidationError")


class Documented(FastAPI):
    """FastAPI documents a 422 of its own for routes with parameters; ours answer 400 in their own form."""

    def openapi(self) -> dict[str, Any]:
        """The document, without what is never answered."""
        document = super().openapi()
        for path in document.get("paths", {}).values():
            for operation in path.values():
                if _is_default(operation["responses"].get("422")):
                    del operation["responses"]["422"]
        for name in _NOT_OURS:
            document.get("components", {}).get("schemas", {}).pop(name, None)
        return document


def _is_default(response: dict[str, Any] | None) -> bool:
    return response is not None and _NOT_OURS[0] in str(response)
