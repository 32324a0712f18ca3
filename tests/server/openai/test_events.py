"""Anybody may follow a video: late, slowly, in numbers, and only until the end."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI

from tests.server.idle import idle, until
from tests.server.openai.conftest import QUICK
from tests.server.orders import order
from wanrun.server.openai import broadcasts as module
from wanrun.server.service import Service

Told = tuple[str, dict[str, Any]]


def told(response: httpx.Response) -> Iterator[Told]:
    """The name and the data of each event; a comment is an event without a name."""
    name = ""
    for line in response.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))
        elif line.startswith(":"):
            yield "", {}
        else:
            assert not line


@contextmanager
def served(home: Path) -> Iterator[tuple[Service, httpx.Client]]:
    """An idle server and a client of it."""
    with idle(home) as server, httpx.Client(base_url=server.url, timeout=30) as client:
        yield server.service, client


def test_a_video_is_followed_to_its_end(http: httpx.Client, openai: OpenAI) -> None:
    # what happens at once is one event: enough steps for the phase to be seen
    sent = {"model": "wan-toy", "prompt": "a red ball"} | QUICK | {"num_inference_steps": 60}
    video_id = http.post("/v1/videos", json=sent).json()["id"]
    with http.stream("GET", f"/v1/videos/{video_id}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        events = list(told(response))
    assert [name for name, _ in events] == ["progress"] * (len(events) - 1) + ["done"]
    progress = [data["progress"] for _, data in events]
    assert progress == sorted(progress)
    assert progress[-1] == 100
    phases = list(dict.fromkeys(data["phase"] for _, data in events[:-1]))
    assert "denoise" in phases
    assert phases == [phase for phase in ("", "text", "denoise", "decode") if phase in phases]
    pictures = [data["preview"] for _, data in events[:-1] if "preview" in data]
    assert pictures
    assert base64.b64decode(pictures[0].removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")
    assert events[-1][1] == http.get(f"/v1/videos/{video_id}").json()
    with http.stream("GET", f"/v1/videos/{video_id}/events") as response:
        assert [name for name, _ in told(response)] == ["done"]


def test_who_comes_late_hears_the_latest_at_once(home: Path) -> None:
    with served(home) as (service, client):
        job = service.jobs.create(order())
        running = replace(job, status="running", phase="denoise", step=2, total=4, rate=0.5, left_s=4.0)
        service.scheduler.events.publish(running, b"picture")
        with client.stream("GET", f"/v1/videos/{job.id}/events") as response:
            events = told(response)
            name, first = next(events)
            assert (name, first["status"]) == ("progress", "queued")
            assert first["preview"] == "data:image/png;base64," + base64.b64encode(b"picture").decode()
            service.scheduler.events.publish(replace(running, step=3))
            assert next(events)[1] == {
                "status": "in_progress",
                "progress": 64,
                "phase": "denoise",
                "step": 3,
                "steps": 4,
                "rate": 0.5,
                "seconds_left": 4.0,
            }
            service.scheduler.events.publish(replace(running, status="failed", error="out of memory"))
            name, last = next(events)
            assert (name, last["status"], last["error"]["message"]) == ("done", "failed", "out of memory")
            assert list(events) == []


def test_who_leaves_is_forgotten(home: Path) -> None:
    with served(home) as (service, client):
        job = service.jobs.create(order())
        for _ in range(3):
            with client.stream("GET", f"/v1/videos/{job.id}/events") as response:
                events = told(response)  # the stream is closed with it
                next(events)
                assert service.scheduler.events.listeners == 1
            until(lambda: service.scheduler.events.listeners == 0)


def test_many_listen_at_once_and_cost_one(home: Path) -> None:
    heard: list[list[Told]] = [[] for _ in range(50)]

    def listen(client: httpx.Client, job_id: str, mine: list[Told]) -> None:
        with client.stream("GET", f"/v1/videos/{job_id}/events") as response:
            for event in told(response):
                mine.append(event)

    with served(home) as (service, client):
        job = service.jobs.create(order())
        threads = [threading.Thread(target=listen, args=(client, job.id, mine)) for mine in heard]
        for thread in threads:
            thread.start()
        until(lambda: all(heard))
        assert service.scheduler.events.listeners == 1
        service.scheduler.events.publish(replace(job, status="running", phase="denoise", step=1, total=3))
        until(lambda: all(len(mine) == 2 for mine in heard))
        service.scheduler.cancel(job.id)
        for thread in threads:
            thread.join(30)
        assert [[name for name, _ in mine] for mine in heard] == [["progress", "progress", "done"]] * 50
        assert all(mine == heard[0] for mine in heard)
        assert service.scheduler.events.listeners == 0


def test_who_joins_others_hears_what_they_have_heard(home: Path) -> None:
    with served(home) as (service, client):
        job = service.jobs.create(order())
        path = f"/v1/videos/{job.id}/events"
        with client.stream("GET", path) as one:
            first = told(one)
            next(first)
            running = replace(job, status="running", phase="denoise", step=2, total=4)
            service.scheduler.events.publish(running, b"picture")
            assert "preview" in next(first)[1]
            service.scheduler.events.publish(replace(running, step=3))
            assert next(first)[1]["step"] == 3
            with client.stream("GET", path) as other:
                second = told(other)
                _, said = next(second)
                assert (said["step"], said["preview"]) == (
                    3,
                    "data:image/png;base64," + base64.b64encode(b"picture").decode(),
                )
                service.scheduler.cancel(job.id)
                assert [name for name, _ in first] == [name for name, _ in second] == ["done"]


def test_who_does_not_read_keeps_nobody_waiting_and_hears_the_end(home: Path) -> None:
    with served(home) as (service, client):
        job = service.jobs.create(order())
        path = f"/v1/videos/{job.id}/events"
        picture = bytes(3_000_000)  # more than a connection holds
        with client.stream("GET", path) as slow, client.stream("GET", path) as quick:
            sleeping, reading = told(slow), told(quick)
            next(sleeping), next(reading)
            for step in range(1, 21):
                running = replace(job, status="running", phase="denoise", step=step, total=20)
                service.scheduler.events.publish(running, picture)
                assert next(reading)[1]["step"] == step
            service.scheduler.cancel(job.id)
            assert [name for name, _ in reading] == ["done"]
            late = list(sleeping)
            assert late[-1][0] == "done"
            assert len(late) < 20


def test_silence_is_broken_by_comments(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_HEARTBEAT_S", 0.0)
    with served(home) as (service, client):
        job = service.jobs.create(order())
        with client.stream("GET", f"/v1/videos/{job.id}/events") as response:
            events = told(response)
            assert [next(events)[0] for _ in range(3)] == ["progress", "", ""]


def test_another_process_may_be_at_it(home: Path) -> None:
    with served(home) as (service, client):
        job = service.jobs.create(order())
        with client.stream("GET", f"/v1/videos/{job.id}/events") as response:
            events = told(response)
            next(events)
            service.jobs.cancel(job.id)
            name, data = next(events)
            assert (name, data["status"]) == ("done", "cancelled")


def test_a_video_that_is_deleted_ends_its_stream(home: Path) -> None:
    with served(home) as (service, client):
        job = service.jobs.create(order())
        with client.stream("GET", f"/v1/videos/{job.id}/events") as response:
            events = told(response)
            next(events)
            service.jobs.delete(job.id)
            assert list(events) == []
