"""``/api/tags``, ``/api/show`` and ``/api/ps``: the models that there are, and those that are loaded."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from wanrun.errors import InvalidRequest
from wanrun.modelfile import grammar
from wanrun.modelfile.document import Modelfile
from wanrun.modelfile.parameters import PARAMETERS, format_parameter
from wanrun.runtime import machine
from wanrun.runtime.workers import Loaded
from wanrun.server.ollama.facts import CONTEXT, details, information
from wanrun.server.ollama.shapes import Details, Named, found_or_shipped, stamp
from wanrun.server.service import Service
from wanrun.store import manifests
from wanrun.store.manifests import Manifest
from wanrun.store.names import Name, parse_name

CAPABILITIES = ["video"]
#: When a model that stays for ever is said to expire: Ollama's longest duration from now.
_FOR_EVER_S = 2**63 / 1e9


class Entry(BaseModel):
    """A model of the store. ``digest`` is its manifest's, ``size`` in bytes."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: Details
    capabilities: list[str] = CAPABILITIES


class Tags(BaseModel):
    """The models, the one that changed last first."""

    models: list[Entry]


class Running(BaseModel):
    """A model that has a worker; ``size`` is its files', ``size_vram`` what of them an accelerator has."""

    name: str
    model: str
    size: int
    digest: str
    details: Details
    expires_at: str
    size_vram: int
    context_length: int = CONTEXT


class Loads(BaseModel):
    """The models that are loaded, the one that stays longest first."""

    models: list[Running]


class Shown(BaseModel):
    """What a model is. ``settings`` are the parameters as values, and the negative prompt."""

    license: str
    modelfile: str
    parameters: str
    template: str
    system: str
    details: Details
    model_info: dict[str, Any]
    capabilities: list[str] = CAPABILITIES
    modified_at: str
    requires: str | None = None
    settings: dict[str, int | float | str]


class AskedShow(Named):
    """Which model to show."""

    verbose: bool | None = Field(None, description="Ignored.")


def router(service: Service) -> APIRouter:
    """``/tags``, ``/show`` and ``/ps``."""
    routes, store = APIRouter(), service.store

    @routes.head("/tags", include_in_schema=False)
    @routes.get("/tags", summary="List models")
    def tags() -> Tags:
        entries = sorted(store.list(), key=lambda entry: entry.modified, reverse=True)
        return Tags(
            models=[
                Entry(
                    name=str(entry.name),
                    model=str(entry.name),
                    modified_at=stamp(entry.modified),
                    size=entry.size,
                    digest=entry.digest.hex,
                    details=details(store, store.manifest(entry.name)),
                )
                for entry in entries
            ]
        )

    @routes.post("/show", summary="Show what a model is")
    def show(asked: AskedShow) -> Shown:
        if not asked.wanted:
            raise InvalidRequest("model is required")
        name = parse_name(found_or_shipped(service, asked.wanted).name)
        manifest, modelfile = store.manifest(name), store.modelfile(name)
        return Shown(
            license="\n".join(modelfile.licenses),
            modelfile=_text(name, modelfile),
            parameters="\n".join(f"{key:<30} {value}" for key, value in _parameters(modelfile)),
            template="{{ prompt }}" if modelfile.template is None else modelfile.template,
            system=modelfile.system or "",
            details=details(store, manifest),
            model_info=information(store, manifest),
            modified_at=stamp(manifests.manifest_path(store.manifests, name).stat().st_mtime),
            requires=modelfile.requires,
            settings=_settings(modelfile),
        )

    @routes.get("/ps", summary="List the models that are loaded")
    def ps() -> Loads:
        known = {str(entry.name): store.manifest(entry.name) for entry in store.list()}
        loaded = [each for each in service.scheduler.workers.loaded() if each.model in known]
        loaded.sort(key=lambda each: _expires(service, each), reverse=True)
        return Loads(models=[_running(service, each, known[each.model]) for each in loaded])

    return routes


def _running(service: Service, loaded: Loaded, manifest: Manifest) -> Running:
    size = sum(layer.size for layer in manifest.layers)
    measured = machine.load(service.scheduler.options.device)
    return Running(
        name=loaded.model,
        model=loaded.model,
        size=size,
        digest=manifest.digest.hex,
        details=details(service.store, manifest),
        expires_at=stamp(_expires(service, loaded)),
        size_vram=size if measured is not None and measured.device_bytes else 0,
    )


def _expires(service: Service, loaded: Loaded) -> float:
    """Seconds since 1970; a busy model stays as long as one that is idle from now."""
    if loaded.expires is not None:
        return loaded.expires
    keep_s = service.scheduler.options.keep_alive_s
    return time.time() + (keep_s if loaded.busy and keep_s >= 0 else _FOR_EVER_S)


def _parameters(modelfile: Modelfile) -> list[tuple[str, str]]:
    """In the order in which parameters are always shown."""
    given = modelfile.parameters
    return [(name, format_parameter(given[name])) for name in PARAMETERS if name in given]


def _settings(modelfile: Modelfile) -> dict[str, int | float | str]:
    values: dict[str, int | float | str] = {
        name: format_parameter(value) if isinstance(value, tuple) else value
        for name, value in modelfile.parameters.items()
    }
    return values | {"negative_prompt": modelfile.negative or ""}


def _text(name: Name, modelfile: Modelfile) -> str:
    """The Modelfile with its files by digest: where they lie is the server's business."""
    return (
        '# Modelfile generated by "wanrun show"\n'
        "# To build a new Modelfile based on this, replace the lines that name files with:\n"
        f"# FROM {name}\n\n"
        f"{grammar.dump(modelfile)}"
    )
