"""``/api/plan``: what a video would take, before it is made."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from wanrun.runtime import advice, machine
from wanrun.runtime.estimate import open_estimator
from wanrun.runtime.planner import Plan
from wanrun.server.ollama.asked import AskedVideo
from wanrun.server.ollama.shapes import found_or_shipped
from wanrun.server.ollama.streams import NDJSON, Tell, answer, worked
from wanrun.server.service import Service

#: Of ordinary length, for a prompt that is not written yet.
_SOME_PROMPT = 20 * "word "


class AskedPlan(AskedVideo):
    """A video to plan."""

    stream: bool | None = Field(
        None, description="True: lines. The last is the plan, and one before has a status if that takes long."
    )


class PhasePlan(BaseModel):
    """A part of the run, and the memory that it takes at its peak."""

    name: str
    seconds: float
    ram_bytes: int
    vram_bytes: int


class Suggestion(BaseModel):
    """Settings that fit: as the command line has them, and as values."""

    text: str
    changes: dict[str, Any]
    ram_bytes: int
    vram_bytes: int
    seconds: float


class Planned(BaseModel):
    """What the video takes. ``reason`` says what does not fit, ``suggestions`` what would."""

    phases: list[PhasePlan]
    peak_ram_bytes: int
    peak_vram_bytes: int
    mapped_bytes: int = Field(description="Of files beside them, which the system can drop and read again.")
    seconds: float
    fits: bool
    device: str
    precision: str
    notes: list[str] = Field(description="What is changed to fit the model.")
    reason: str | None = None
    suggestions: list[Suggestion] | None = None


def router(service: Service) -> APIRouter:
    """``/plan``."""
    routes = APIRouter()

    @routes.post(
        "/plan",
        summary="Say what a video would take",
        response_model=Planned,
        response_model_exclude_none=True,
        responses={200: {"content": NDJSON}},
    )
    async def plan(asked: AskedPlan, request: Request) -> Response:
        """Takes what /api/generate takes. The first plan measures the machine, for some seconds."""
        return await answer(worked(partial(_plan, service, asked)), bool(asked.stream), request)

    return routes


def _plan(service: Service, asked: AskedPlan, tell: Tell) -> None:
    bundle = found_or_shipped(service, asked.wanted)
    request = service.request(bundle.name, asked.prompt or _SOME_PROMPT, asked.parameters(bundle))
    device = service.scheduler.options.device
    if machine.load(device) is None:
        tell({"status": "measuring its machine"})
    estimator = open_estimator(bundle, device, None)
    planned = estimator.plan(request)
    described = _described(planned, list(request.notes))
    if not planned.fits:
        found = estimator.suggest(request)
        described.reason = advice.explain(planned, found, estimator.told)
        described.suggestions = [_suggested(each) for each in found]
    tell(described.model_dump(exclude_none=True))


def _described(planned: Plan, notes: list[str]) -> Planned:
    return Planned(
        phases=[
            PhasePlan(
                name=phase.name,
                seconds=round(phase.seconds, 3),
                ram_bytes=phase.memory,
                vram_bytes=phase.device_memory,
            )
            for phase in planned.phases
        ],
        peak_ram_bytes=planned.memory,
        peak_vram_bytes=planned.device_memory,
        mapped_bytes=planned.pages,
        seconds=round(planned.seconds, 3),
        fits=planned.fits,
        device=planned.device,
        precision=planned.precision,
        notes=notes,
    )


def _suggested(found: advice.Suggestion) -> Suggestion:
    return Suggestion(
        text=found.text,
        changes=dict(found.changes),
        ram_bytes=found.plan.memory,
        vram_bytes=found.plan.device_memory,
        seconds=round(found.plan.seconds, 3),
    )
