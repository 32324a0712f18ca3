"""A status call is answered from memory, and is as true as if it were not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from tests.server.idle import Idle, idle
from tests.server.orders import order
from wanrun.errors import JobNotFound
from wanrun.server import openai
from wanrun.server.claims import Advance, Claims
from wanrun.server.job import Job
from wanrun.server.jobs import Jobs
from wanrun.server.openai import states as module
from wanrun.server.openai.shortcut import Shortcut
from wanrun.server.openai.states import States


@pytest.fixture
def server(home: Path) -> Iterator[Idle]:
    with idle(home) as started:
        yield started


@pytest.fixture
def http(server: Idle) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


def test_the_route_behind_answers_the_same(server: Idle, http: httpx.Client) -> None:
    job = server.service.jobs.create(order(prompt='ein "Ball" \u2603 \U0001f3c0'))
    path = f"/v1/videos/{job.id}"

    async def long() -> httpx.Response:
        app = FastAPI()
        app.include_router(openai.router(server.service, States(server.service)))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get(path)

    short, routed = http.get(path), asyncio.run(long())
    assert short.json() == routed.json() == http.get("/v1/videos").json()["data"][0]
    for name in ("content-type", "content-length", "openai-poll-after-ms"):
        assert short.headers[name] == routed.headers[name]


def test_changes_are_seen_at_once_whoever_makes_them(server: Idle, http: httpx.Client, home: Path) -> None:
    job = server.service.jobs.create(order())
    path = f"/v1/videos/{job.id}"
    assert http.get(path).json()["status"] == "queued"
    with ExitStack() as stack:
        other = Jobs(home)  # as another process has it: connections of its own
        stack.callback(other.close)
        claims = Claims(other)
        stack.callback(claims.close)
        claimed = claims.next()
        assert claimed is not None
        assert http.get(path).json()["status"] == "in_progress"
        for step in range(1, 20):
            claims.advance(claimed, Advance("denoise", step, 20))
            assert http.get(path).json()["wanrun"]["step"] == step
        other.cancel(job.id)
        assert http.get(path).json()["wanrun"]["cancelling"] is True
        claims.stop(claimed, "cancelled")
        assert http.get(path).json()["status"] == "cancelled"
        other.delete(job.id)
        assert http.get(path).status_code == 404


def test_the_place_in_the_queue_is_another_jobs_doing(server: Idle, http: httpx.Client) -> None:
    jobs = server.service.jobs
    first, second = jobs.create(order()), jobs.create(order())
    path = f"/v1/videos/{second.id}"
    assert http.get(path).json()["wanrun"]["queue_position"] == 1
    jobs.cancel(first.id)
    assert http.get(path).json()["wanrun"]["queue_position"] == 0


def test_what_is_unchanged_is_not_read_again(server: Idle, monkeypatch: pytest.MonkeyPatch) -> None:
    service, read = server.service, []
    job = service.jobs.create(order())

    def get(job_id: str) -> Job:
        read.append(job_id)
        return Jobs.get(service.jobs, job_id)

    monkeypatch.setattr(service.jobs, "get", get)

    async def ask() -> None:
        states = States(service)
        first = await states.get(job.id)
        assert all([await states.get(job.id) is first for _ in range(10)])
        assert read == [job.id]
        service.jobs.create(order())
        assert (await states.get(job.id)).body == first.body
        assert read == [job.id, job.id]

    asyncio.run(ask())


def test_what_is_written_while_a_state_is_read_is_not_forgotten(server: Idle) -> None:
    jobs = server.service.jobs
    one, two = jobs.create(order()), jobs.create(order())

    async def ask() -> None:
        states = States(server.service)
        reading, go_on = threading.Event(), threading.Event()
        original = states._read

        def slowly(video_id: str) -> module.State:
            state = original(video_id)
            if video_id == one.id and not reading.is_set():
                reading.set()
                go_on.wait(10)
            return state

        states._read = slowly  # type: ignore[method-assign]
        asked = asyncio.create_task(states.get(one.id))
        await asyncio.to_thread(reading.wait, 10)
        jobs.cancel(one.id)
        await states.get(two.id)  # sees the change, before the old state of the other is there
        go_on.set()
        await asked
        assert (await states.get(one.id)).job.status == "cancelled"

    asyncio.run(ask())


def test_few_states_are_kept(server: Idle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT", 3)
    jobs = [server.service.jobs.create(order()) for _ in range(8)]

    async def ask() -> None:
        states = States(server.service)
        for job in jobs:
            assert (await states.get(job.id)).job == job
            assert len(states._kept) <= 3

    asyncio.run(ask())


@pytest.mark.parametrize("video_id", ["video_" + 24 * "0", "video_", "%00", "video_" + 24 * "Z"])
def test_what_there_is_not_is_not_found(http: httpx.Client, video_id: str) -> None:
    answer = http.get(f"/v1/videos/{video_id}")
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "not_found_error"


def test_other_methods_and_paths_go_on(server: Idle) -> None:
    passed: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        passed.append(scope.get("path", scope["type"]))

    async def never(*_: Any) -> Any:
        raise AssertionError

    async def ask() -> None:
        shortcut = Shortcut(app, States(server.service))
        await shortcut({"type": "lifespan"}, never, never)
        for method, path in (
            ("POST", "/v1/videos/video_" + 24 * "0"),
            ("GET", "/v1/videos/video_" + 24 * "0" + "/events"),
            ("GET", "/v1/videos"),
            ("GET", "/v1/videos/video_" + 24 * "0" + "\n"),
        ):
            await shortcut({"type": "http", "method": method, "path": path}, never, never)

    asyncio.run(ask())
    assert passed == [
        "lifespan",
        "/v1/videos/video_" + 24 * "0",
        "/v1/videos/video_" + 24 * "0" + "/events",
        "/v1/videos",
        "/v1/videos/video_" + 24 * "0" + "\n",
    ]


def test_a_state_of_a_video_that_is_not_there_is_an_error(server: Idle) -> None:
    with pytest.raises(JobNotFound):
        asyncio.run(States(server.service).get("video_" + 24 * "0"))


def test_what_nobody_foresaw_is_answered_without_a_path(
    server: Idle, http: httpx.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> int:
        raise RuntimeError("/home/somebody/secret is broken")

    job = server.service.jobs.create(order())
    monkeypatch.setattr(server.service.jobs.database, "version", fail)
    answer = http.get(f"/v1/videos/{job.id}")
    assert (answer.status_code, answer.json()["error"]["message"]) == (500, "internal server error")
    assert "nobody foresaw RuntimeError" in caplog.text
    assert "/home/somebody" not in caplog.text
