"""The OpenAPI document is true of every route: schemathesis asks for what it allows, and what it does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, reject, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation, BaseSchema

from tests.runtime.machines import keep
from tests.server.idle import idle
from tests.server.orders import order
from wanrun.server.claims import Claims
from wanrun.server.jobs import Jobs
from wanrun.store import pulling
from wanrun.store.creation import quiet
from wanrun.store.store import Store
from wanrun.video.writer import open_writer

Operation: TypeAlias = APIOperation[Any, Any, Any, Any]
Asked: TypeAlias = Case[Operation]
#: Where what the document allows may be refused, for a reason that no schema has words for.
_REFUSED = {
    "/api/create": "files and models have to be there",
    "/api/blobs/{digest}": "the digest has to be that of the body",
    "/api/push": "the name has to be that of a registry",
    "/api/generate": "settings have to fit the model and one another",
    "/api/plan": "settings have to fit the model and one another",
    "/api/replay": "there is an id or a provenance, and that of a video",
    "/api/chat": "no model here can do it",
    "/api/embed": "no model here can do it",
    "/api/embeddings": "no model here can do it",
    "/v1/images/generations": "settings have to fit the model and one another",
    "/v1/videos": "settings have to fit the model and one another",
    "/v1/videos/{video_id}/content": "the video has to be finished",
    "/v1/videos/{video_id}/provenance": "the video has to be finished",
    "/v1/videos/sync": "settings have to fit the model and one another",
}
_CONFIG = {
    "seed": 6,
    "operations": [
        {"include-path": list(_REFUSED), "checks": {"positive_data_acceptance": {"enabled": False}}}
    ],
}
#: What an order may say whatever else it says, and whatever the model is.
_INDEPENDENT = {
    *("model", "prompt", "negative_prompt", "num_inference_steps", "guidance_scale", "guidance_scale_2"),
    *("guidance_rescale", "flow_shift", "boundary_ratio", "cross_frame", "flicker", "fps", "seed", "user"),
    *("precision", "format", "priority"),
}


@pytest.fixture(autouse=True)
def measured(home: Path) -> None:
    """What the server of this process knows of its machine, whatever home it serves."""
    keep(home)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Ids of a finished and of a cancelled video, in the home of ``document``."""
    return {}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory, known: dict[str, str]) -> Iterator[BaseSchema]:
    """The document of a server that has wan-toy and two jobs, and makes no videos."""
    home = tmp_path_factory.mktemp("document") / "home"
    pulling.pull(Store(home), "wan-toy", quiet)
    jobs = Jobs(home)
    known |= {"finished": finished(jobs), "cancelled": jobs.cancel(jobs.create(order()).id).id}
    jobs.close()
    with idle(home, queue=100_000) as server:
        yield schemathesis.openapi.from_url(
            f"{server.url}/openapi.json", config=SchemathesisConfig.from_dict(_CONFIG)
        )


def finished(jobs: Jobs) -> str:
    """A job with a video."""
    job, claims = jobs.create(order()), Claims(jobs)
    assert claims.next() is not None
    jobs.outputs.prepare()
    with open_writer(jobs.outputs.path(f"{job.id}.mp4"), 8, None, {}) as writer:
        for _ in range(5):
            writer.write(np.zeros((32, 32, 3), np.uint8))
    claims.complete(job, f"{job.id}.mp4")
    claims.close()
    return job.id


def ask(
    operation: Operation,
    mode: GenerationMode,
    change: Callable[[Asked], object],
    examples: int,
) -> None:
    """Ask for what ``mode`` makes of the operation, with a ``change``; raises for an undocumented answer."""

    bodies = []

    @settings(max_examples=examples, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy(generation_mode=mode))
    def asked(case: Asked) -> None:
        bodies.extend([case.body] if isinstance(case.body, dict | bytes) else [])
        change(case)
        case.call_and_validate(timeout=20)

    with suppress(Unsatisfiable):  # what takes nothing cannot be asked wrongly
        asked()
    if mode is GenerationMode.POSITIVE and operation.definition.raw.get("requestBody", {}).get("required"):
        assert bodies, f"no body for {operation.label}: is its schema sound?"


def operations(document: BaseSchema) -> list[Operation]:
    return [result.ok() for result in document.get_all_operations() if isinstance(result, Ok)]


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_any_request_is_answered_as_documented(document: BaseSchema, mode: GenerationMode) -> None:
    for operation in operations(document):
        pulls = operation.path == "/api/pull" and mode is GenerationMode.POSITIVE
        ask(operation, mode, _here if pulls else lambda case: None, 5)


def test_orders_of_independent_settings_are_taken(document: BaseSchema) -> None:
    def change(case: Asked) -> None:
        _order(case)
        if not isinstance(case.body, dict):
            reject()
        for name in case.body.keys() - _INDEPENDENT:
            del case.body[name]
        case.headers.pop("idempotency-key", None)
        case.body["prompt"] = f"a ball {case.body['prompt']}"

    assert document.location is not None
    config = SchemathesisConfig.from_dict({"seed": 6})
    strict = schemathesis.openapi.from_url(document.location, config=config)
    ask(strict["/v1/videos"]["POST"], GenerationMode.POSITIVE, change, 30)


def test_videos_are_answered_as_documented(document: BaseSchema, known: dict[str, str]) -> None:
    for operation in operations(document):
        if operation.path.startswith("/v1/videos/{video_id}") and operation.method == "get":
            for video_id in known.values():
                ask(operation, GenerationMode.POSITIVE, partial(_name, video_id), 5)


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_orders_are_answered_as_documented(document: BaseSchema, mode: GenerationMode) -> None:
    ask(document["/v1/videos"]["POST"], mode, _order, 30)


def _name(video_id: str, case: Asked) -> None:
    case.path_parameters["video_id"] = video_id


def _here(case: Asked) -> None:
    """Nobody else's machine is asked for it."""
    cast("dict[str, Any]", case.body)["model"] = "wan-toy"


def _order(case: Asked) -> None:
    """One for a model that there is, unless it is the model's name that is wrong."""
    body = cast("dict[str, Any]", case.body) if isinstance(case.body, dict) else {}
    if isinstance(body.get("model"), str) and 0 < len(body["model"]) <= 512:
        body["model"] = "wan-toy"
