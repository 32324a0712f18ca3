"""``/api/create``: makes a model of a Modelfile's fields, and of files that were brought before.

No path of this machine is ever taken from a request, and none is told.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import PurePosixPath
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import Field

from wanrun.errors import InvalidRequest, ModelNotFound, WanrunError
from wanrun.gguf.header import read_header
from wanrun.modelfile.document import AdapterLine, ComponentLine, Modelfile
from wanrun.modelfile.parameters import Value, find_parameter, format_parameter, parse_parameter
from wanrun.server.ollama.blobs import lease_of
from wanrun.server.ollama.shapes import Named, missing, parsed
from wanrun.server.ollama.streams import NDJSON, Lines, Tell, answer, paced, worked
from wanrun.server.ollama.transfer import Progress
from wanrun.server.service import Service
from wanrun.store import creation, leases
from wanrun.store.blobs import blob_path
from wanrun.store.digest import Digest
from wanrun.store.names import Name
from wanrun.store.store import Store
from wanrun.types import EXPERTS, ROLES
from wanrun.wan.detect import expert_hint, identify
from wanrun.wan.mixes import find_mix

_KINDS = {"text_encoder": "text_encoder", "vae": "vae", "tiny": "preview"}


class AskedCreate(Named):
    """A Modelfile's lines. Files are named by the digests under which they were brought.

    The name of a file, or its stem, may be a role (diffusion, high_noise, low_noise, text_encoder, vae,
    preview, expander); otherwise the file itself says what it is. Of an adapter it may be an expert.
    """

    from_: str | None = Field(None, alias="from", max_length=512, description="The model to build on.")
    files: dict[str, str] | None = Field(None, description="Digests by file name.")
    adapters: dict[str, str] | None = Field(None, description="Digests of LoRAs by file name.")
    parameters: dict[str, Any] | None = Field(None, description="A Modelfile's parameters.")
    template: str | None = None
    negative: str | None = Field(None, description="The negative prompt of who gives none.")
    system: str | None = None
    license: str | list[str] | None = None
    requires: str | None = None
    quantize: str | None = Field(None, description="What the experts become, such as Q4_K_M.")
    stream: bool | None = None


def router(service: Service) -> APIRouter:
    """``/create``."""
    routes = APIRouter()

    @routes.post(
        "/create",
        summary="Make a model",
        response_model=Progress,
        response_model_exclude_none=True,
        responses={200: {"content": NDJSON}},
    )
    async def create(asked: AskedCreate, request: Request) -> Response:
        name = parsed(asked.wanted)
        modelfile = await asyncio.to_thread(_modelfile, service.store, asked)
        return await answer(_making(service.store, name, asked, modelfile), asked.stream, request)

    return routes


def _making(store: Store, name: Name, asked: AskedCreate, modelfile: Modelfile) -> Lines:
    def make(tell: Tell) -> None:
        progress = paced(
            lambda phase, done, total: tell(
                {"status": _said(phase, modelfile), "completed": done, "total": total}
            )
        )
        tell({"status": "gathering model components"})
        # what lies in the folder of blobs can be no name of a model
        creation.create(store, name, modelfile, store.blobs, progress)
        for digest in (*(asked.files or {}).values(), *(asked.adapters or {}).values()):
            leases.release(store.home, lease_of(Digest.parse(digest)))
        for layer in store.manifest(name).layers:
            tell({"status": f"using existing layer {layer.digest}"})
        tell({"status": "writing manifest"})
        tell({"status": "success"})

    return worked(make)


def _said(phase: str, modelfile: Modelfile) -> str:
    """What Ollama calls the phase."""
    quantizing = phase == "quantising" and modelfile.quantize
    return f"quantizing model to {modelfile.quantize}" if quantizing else phase


def _modelfile(store: Store, asked: AskedCreate) -> Modelfile:
    if not asked.from_ and not asked.files:
        raise InvalidRequest("neither 'from' or 'files' was specified")
    licenses = [asked.license] if isinstance(asked.license, str) else asked.license or []
    return Modelfile(
        from_=_parent(store, asked.from_) if asked.from_ else None,
        components=tuple(_component(store, *each) for each in (asked.files or {}).items()),
        adapters=tuple(_adapter(store, *each) for each in (asked.adapters or {}).items()),
        parameters=_parameters(asked.parameters or {}),
        template=asked.template,
        negative=asked.negative,
        system=asked.system,
        licenses=tuple(licenses),
        requires=asked.requires,
        quantize=_kind(asked.quantize) if asked.quantize else None,
    )


def _kind(text: str) -> str:
    find_mix(text)
    return text.upper()


def _parent(store: Store, text: str) -> str:
    """The name of the model to build on, which is here or shipped: nothing is downloaded for it."""
    name = parsed(text)
    try:
        creation.describe(store, name)
    except ModelNotFound:
        raise missing(text) from None
    return str(name)


def _component(store: Store, file: str, digest: str) -> ComponentLine:
    path = _brought(store, file, digest)
    stem = PurePosixPath(file).name.partition(".")[0].lower()
    if stem in ROLES:
        return ComponentLine(stem, path)
    try:
        identity = identify(read_header(blob_path(store.blobs, Digest.parse(digest))))
    except WanrunError as error:
        raise InvalidRequest(f"{file[:100]}: {error}") from error
    if identity.kind == "diffusion":
        return ComponentLine(expert_hint(file) or identity.expert or "diffusion", path)
    if identity.kind not in _KINDS:
        raise InvalidRequest(f"{file[:100]} is nothing that a model is made of: name it after its role")
    return ComponentLine(_KINDS[identity.kind], path)


def _adapter(store: Store, file: str, digest: str) -> AdapterLine:
    path = _brought(store, file, digest)
    stem = PurePosixPath(file).name.partition(".")[0].lower()
    role = stem if stem in EXPERTS[1:] else expert_hint(file)
    return AdapterLine(path, role)


def _brought(store: Store, file: str, digest: str) -> str:
    """The path of the file's blob, which nobody but us chooses."""
    parts = file.split("/")
    if not file or "\\" in file or any(part in ("", ".", "..") for part in parts) or len(file) > 512:
        raise InvalidRequest("file path must be relative")
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise InvalidRequest("invalid digest format")
    path = blob_path(store.blobs.absolute(), Digest.parse(digest))
    if not path.is_file():
        raise InvalidRequest(f"{digest} is not here: POST it to /api/blobs/{digest} first")
    return str(path)


def _parameters(given: dict[str, Any]) -> dict[str, Value]:
    parameters: dict[str, Value] = {}
    for name, value in given.items():
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise InvalidRequest(f"{find_parameter(name).name} must be {find_parameter(name).expects}")
        text = value if isinstance(value, str) else format_parameter(value)
        parameters[find_parameter(name).name] = parse_parameter(name, text)
    return parameters
