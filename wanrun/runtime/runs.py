"""Runs on disk: what an interrupted run needs to continue, and its latents once they are done.

``$WANRUN_HOME/runs/<id>/`` holds ``run.json`` (model, digests, request), the recorded velocities and at last
``latents.safetensors``. A run that ends well leaves nothing; one that does not is forgotten after two weeks.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from wanrun.errors import InvalidRequest, ModelNotFound
from wanrun.store.durable import make_folder, store_errors, write_file
from wanrun.types import Bundle, GenerationRequest, Lora

_ID = re.compile(r"[0-9a-f]{8}")
_KEPT_S = 14 * 86_400.0
_HASH_BYTES = 32


@dataclass(frozen=True, slots=True)
class Run:
    """One run's folder."""

    folder: Path

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def latents(self) -> Path:
        """Where the finished latents are kept until their video is written."""
        return self.folder / "latents.safetensors"

    @property
    def started(self) -> bool:
        """Whether there is anything that would have to be computed again."""
        return self.latents.exists() or (self.folder / "velocity-00000").exists()

    def record(self, index: int, data: bytes) -> None:
        """Keep the velocity with this number, under its sha256."""
        with store_errors(f"cannot write the checkpoint {self.folder}"):
            write_file(self.folder / f"velocity-{index:05d}", hashlib.sha256(data).digest() + data)

    def recorded(self) -> list[bytes]:
        """The velocities from the first on, up to the first that is missing or damaged."""
        return list(self._sound())

    def forget(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _sound(self) -> Iterator[bytes]:
        for index in range(100_000):
            try:
                data = (self.folder / f"velocity-{index:05d}").read_bytes()
            except OSError:
                return
            if hashlib.sha256(data[_HASH_BYTES:]).digest() != data[:_HASH_BYTES]:
                return
            yield data[_HASH_BYTES:]


def begin(home: Path, bundle: Bundle, request: GenerationRequest) -> Run:
    """A new run's folder, in which everything that decides its video is written down."""
    folder = home / "runs"
    _forget_old(folder)
    run = Run(folder / secrets.token_hex(4))
    with store_errors(f"cannot write the checkpoint {run.folder}"):
        make_folder(run.folder)
        write_file(run.folder / "run.json", json.dumps(_written(bundle, request), indent=1).encode())
    return run


def interrupted(home: Path, bundle: Bundle, request: GenerationRequest) -> Run | None:
    """A run of this very request, by the same files, that stopped before its video was written."""
    wanted = json.loads(json.dumps(_written(bundle, request)))
    for path in (home / "runs").glob("*/run.json"):
        run = Run(path.parent)
        with suppress(InvalidRequest):  # a damaged run is none
            if run.started and _described(run) == wanted:
                return run
    return None


def _written(bundle: Bundle, request: GenerationRequest) -> dict[str, Any]:
    return {"model": bundle.name, **_made_of(bundle), "request": asdict(request)}


def find(home: Path, run_id: str) -> Run:
    """The interrupted run with this id; ModelNotFound lists those that there are."""
    run = Run(home / "runs" / run_id)
    if not _ID.fullmatch(run_id) or not (run.folder / "run.json").is_file():
        there = sorted(path.parent.name for path in (home / "runs").glob("*/run.json"))
        raise ModelNotFound(
            f"there is no interrupted run {run_id!r}; there are: {', '.join(there) or 'none'}"
        )
    return run


def model(run: Run) -> str:
    """The name of the model that the run uses."""
    return str(_described(run)["model"])


def request(run: Run, bundle: Bundle) -> GenerationRequest:
    """The run's request; InvalidRequest if ``bundle`` is no longer made of the same bytes."""
    described = _described(run)
    begun = {"components": described["components"], "adapters": described.get("adapters", [])}
    if _made_of(bundle) != begun:
        raise InvalidRequest(f"{bundle.name} has changed since run {run.id} began: start it anew")
    return parse_request(described["request"], f"run {run.id}")


def _made_of(bundle: Bundle) -> dict[str, Any]:
    """Every file that decides the video, as JSON gives it back."""
    return {
        "components": {role: component.digest for role, component in bundle.components.items()},
        "adapters": [[each.role, each.scale, each.component.digest] for each in bundle.adapters],
    }


def _described(run: Run) -> dict[str, Any]:
    try:
        described = json.loads((run.folder / "run.json").read_text("utf-8"))
        if isinstance(described, dict) and {"model", "components", "request"} <= described.keys():
            return described
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"run {run.id} is damaged and cannot continue: {error}") from error
    raise InvalidRequest(f"run {run.id} is damaged and cannot continue: run.json is incomplete")


def parse_request(values: object, origin: str) -> GenerationRequest:
    """The request that was written down as JSON; InvalidRequest if it is not one of this version's."""
    names = {field.name for field in fields(GenerationRequest)}
    if not isinstance(values, dict) or set(values) != names:
        raise InvalidRequest(f"{origin} was made by another version of wanrun: start it anew")
    lists = {name: tuple(values[name]) for name in ("latent_shape", "notes")}
    lists["lora"] = tuple(Lora(**each) for each in values["lora"])
    return GenerationRequest(**{**values, **lists})


def _forget_old(folder: Path) -> None:
    for path in folder.glob("*/run.json"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _KEPT_S:
                Run(path.parent).forget()
