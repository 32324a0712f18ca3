"""The OpenAPI document is true of every route: schemathesis asks for what it allows, and what it does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias, cast

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation, BaseSchema

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
_CONFIG = {
    "seed": 6,
    # what a route does not know in a query is ignored, as everywhere
    "checks": {"positive_data_acceptance": {"enabled": False}},
}


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

    @settings(max_examples=examples, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy(generation_mode=mode))
    def asked(case: Asked) -> None:
        change(case)
        case.call_and_validate(timeout=20)

    with suppress(Unsatisfiable):  # what takes nothing cannot be asked wrongly
        asked()


def operations(document: BaseSchema) -> list[Operation]:
    return [result.ok() for result in document.get_all_operations() if isinstance(result, Ok)]


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_any_request_is_answered_as_documented(document: BaseSchema, mode: GenerationMode) -> None:
    for operation in operations(document):
        ask(operation, mode, lambda case: None, 5)


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


def _order(case: Asked) -> None:
    """One for a model that there is, unless it is the model's name that is wrong."""
    body = cast("dict[str, Any]", case.body) if isinstance(case.body, dict) else {}
    if isinstance(body.get("model"), str) and 0 < len(body["model"]) <= 512:
        body["model"] = "wan-toy"
