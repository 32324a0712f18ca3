"""The routes that say what serves here."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from wanrun import __version__


class Version(BaseModel):
    """The server's version."""

    version: str


def router() -> APIRouter:
    """``/version``."""
    routes = APIRouter()

    @routes.head("/version", include_in_schema=False)
    @routes.get("/version")
    def version() -> Version:
        return Version(version=__version__)

    return routes
