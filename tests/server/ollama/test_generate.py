"""Videos by Ollama's clients: progress in steps, a poster at the end, models loaded and unloaded."""

from __future__ import annotations

import hashlib
import io
import json
import time
from base64 import b64decode
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.server.serving import Server
from wanrun.video.provenance import read_provenance

SMALL = {"model": "wan-toy", "prompt": "a red ball", "width": 32, "height": 32, "frames": 5, "steps": 2}


def lines(http: httpx.Client, **asked: Any) -> list[dict[str, Any]]:
    with http.stream("POST", "/api/generate", json=SMALL | asked) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"] == "application/x-ndjson"
        return [json.loads(line) for line in response.iter_lines()]


def test_steps_then_the_video(http: httpx.Client) -> None:
    heard = lines(http, options={"seed": 7, "temperature": 0.5}, keep_alive="10m")
    assert {line["model"] for line in heard} == {"wan-toy"}
    assert all(line["response"] == "" for line in heard)
    *progress, last = heard
    assert not any(line["done"] for line in progress)
    assert {line["total"] for line in progress if "total" in line} == {2}
    assert all(line.get("completed", 1) <= line.get("total", 2) for line in progress)
    assert next(line["phase"] for line in progress) in ("queued", "starting")
    assert (last["done"], last["done_reason"]) == (True, "stop")
    assert last["total_duration"] >= last["load_duration"] >= 0
    poster = Image.open(io.BytesIO(b64decode(last["image"])), formats=["PNG"])
    assert poster.size == (32, 32)
    video = last["video"]
    assert (video["mime"], video["id"]) == ("video/mp4", last["id"])
    data = http.get(video["url"]).content
    assert (len(data), hashlib.sha256(data).hexdigest()) == (video["size"], video["sha256"])


def test_an_expanded_prompt_is_in_the_file(http: httpx.Client, tmp_path: Path) -> None:
    asked = SMALL | {"stream": False, "steps": 1, "frames": 1, "seed": 7, "expand": "template"}
    video = http.post("/api/generate", json=asked | {"prompt": "a \x00[red | red] ball"}).json()["video"]
    path = tmp_path / "clip.mp4"
    path.write_bytes(http.get(video["url"]).content)
    request = read_provenance(path)["request"]
    assert (request["written"], request["prompt"]) == ("a \x00[red | red] ball", "a \x00red ball")
    assert request["expanded"].startswith("a red ball on a ")


def test_one_answer_without_a_stream(http: httpx.Client) -> None:
    answer = http.post("/api/generate", json=SMALL | {"stream": False, "steps": 1}).json()
    assert (answer["done"], answer["done_reason"]) == (True, "stop")
    assert answer["video"]["size"] > 0


def test_loading_and_unloading(http: httpx.Client) -> None:
    loaded = http.post("/api/generate", json={"model": "wan-toy"}).json()
    assert (loaded["done"], loaded["done_reason"], loaded["response"]) == (True, "load", "")
    (running,) = http.get("/api/ps").json()["models"]
    assert (running["name"], running["context_length"]) == ("wan-toy:latest", 512)
    for_ever = http.post("/api/generate", json={"model": "wan-toy", "prompt": "", "keep_alive": -1})
    assert for_ever.json()["done_reason"] == "load"
    (running,) = http.get("/api/ps").json()["models"]
    assert int(running["expires_at"][:4]) > 2200
    unloaded = http.post("/api/generate", json={"name": "WAN-TOY:latest", "keep_alive": 0})
    assert unloaded.headers["content-type"].startswith("application/json")
    assert unloaded.json()["done_reason"] == "unload"
    assert http.get("/api/ps").json() == {"models": []}
    assert http.post("/api/generate", json={"model": "wan-toy", "keep_alive": "0s"}).status_code == 200


@pytest.mark.parametrize("keep_alive", ["300", "x", "1d", "", "9" * 200, [], {}, True])
def test_a_keep_alive_that_is_no_duration(http: httpx.Client, keep_alive: object) -> None:
    assert http.post("/api/generate", json={"model": "wan-toy", "keep_alive": keep_alive}).status_code == 400


def test_who_hangs_up_cancels(http: httpx.Client, server: Server) -> None:
    long = SMALL | {"steps": 900}
    with http.stream("POST", "/api/generate", json=long) as response:
        first = json.loads(next(response.iter_lines()))
    assert ended(http, first["id"]) == "cancelled"
    with pytest.raises(httpx.ReadTimeout):
        http.post("/api/generate", json=long | {"stream": False}, timeout=1)
    newest = http.get("/v1/videos").json()["data"][0]["id"]
    assert newest != first["id"]
    assert ended(http, newest) == "cancelled"


def test_who_asked_for_a_job_may_hang_up(http: httpx.Client) -> None:
    with http.stream("POST", "/api/generate", json=SMALL | {"job": True, "steps": 3}) as response:
        first = json.loads(next(response.iter_lines()))
    assert ended(http, first["id"]) == "completed", http.get(f"/v1/videos/{first['id']}").text


def ended(http: httpx.Client, job_id: str) -> str:
    until = time.monotonic() + 60
    status = ""
    while time.monotonic() < until:
        status = http.get(f"/v1/videos/{job_id}").json()["status"]
        if status not in ("queued", "in_progress"):
            break
        time.sleep(0.1)
    return status


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        ({"model": "nobody/nothing"}, 404, "model 'nobody/nothing' not found"),
        ({"model": "../../etc/passwd"}, 400, "invalid model name"),
        ({"model": ""}, 400, "invalid model name"),
        ({"width": 5000}, 400, "size must be WIDTHxHEIGHT"),
        ({"steps": 100_000}, 400, "steps must be"),
        ({"options": {"stepz": 3}}, 400, "unknown parameter 'stepz': did you mean 'steps'?"),
        ({"options": {"seed": [1]}}, 400, "seed must be"),
        ({"width": None, "options": {"width": "wide"}}, 400, "width and height must be whole numbers"),
        ({"options": {"seconds": "long"}}, 400, "seconds must be a number"),
        ({"width": 4096, "height": 4096, "frames": 1025}, 400, "pixels, and this server makes at most"),
        ({"images": ["eA=="]}, 400, "does not support images"),
        ({"steps": "four"}, 400, "steps: "),
        ({"seed": 10**200}, 400, "seed must be"),
    ],
)
def test_what_cannot_be_made(http: httpx.Client, asked: dict[str, Any], status: int, words: str) -> None:
    refused = http.post("/api/generate", json=SMALL | asked)
    assert (refused.status_code, refused.headers["content-type"]) == (status, "application/json")
    assert words in refused.json()["error"]


def test_a_plan_before_the_run(http: httpx.Client) -> None:
    planned = http.post("/api/plan", json=SMALL).json()
    assert planned["fits"] is True
    assert planned["peak_ram_bytes"] == max(phase["ram_bytes"] for phase in planned["phases"])
    assert planned["seconds"] == pytest.approx(sum(phase["seconds"] for phase in planned["phases"]), abs=0.01)
    longer = http.post("/api/plan", json=SMALL | {"steps": 20, "prompt": None}).json()
    assert longer["seconds"] > planned["seconds"]
    (streamed,) = http.post("/api/plan", json=SMALL | {"stream": True}).text.splitlines()
    assert json.loads(streamed) == http.post("/api/plan", json=SMALL | {"stream": False}).json()
    for stream in (None, True, False):
        assert http.post("/api/plan", json={"model": "nothing", "stream": stream}).status_code == 404


def test_a_level_of_quality_and_a_target(http: httpx.Client) -> None:
    asked = {"model": "wan-toy", "prompt": "a red ball"}
    plans = [
        http.post("/api/plan", json=asked | {"options": {"quality": level}}).json()
        for level in ("draft", "best")
    ]
    assert plans[0]["seconds"] < plans[1]["seconds"]
    assert all("chosen: sampler" in plan["notes"][-1] for plan in plans)
    in_time = http.post("/api/plan", json=asked | {"target": "2m", "width": 256, "height": 256}).json()
    assert 0.8 * 120 <= in_time["seconds"] <= 1.05 * 120
    made = lines(http, quality="draft", steps=1)[-1]
    (note,) = http.get(f"/v1/videos/{made['id']}").json()["wanrun"]["notes"]
    assert note.startswith("chosen: ")
    for wrong in ({"target": "soon"}, {"target": -1}, {"target": [1]}, {"quality": "great"}, {"quality": 3}):
        assert http.post("/api/plan", json=asked | {"options": wrong}).status_code == 400, wrong


def test_a_replay_is_the_same(http: httpx.Client) -> None:
    made = lines(http, seed=5)[-1]
    replayed = http.post("/api/replay", json={"id": made["id"], "stream": False}).json()
    assert replayed["bit_exact"] is True
    assert replayed["video"]["sha256"] == made["video"]["sha256"]


TWISTED: tuple[dict[str, Any], ...] = (
    *(
        {"width": 1 << 20},
        {"width": "32"},
        {"width": None},
        {"steps": 10**9},
        {"steps": [1]},
        {"seed": -1},
    ),
    *({"prompt": 7}, {"negative": 7}, {"sampler": "../x"}, {"sampler": "none"}, {"latent_shape": None}),
    *(
        {"latent_shape": [1, 1, 1, 1]},
        {"decoder": "x"},
        {"precision": "fp1"},
        {"frames": 6},
        {"notes": 3},
    ),
    *({"boundary": 7}, {"guidance_high": "much"}, {"shift": {}}, {"height": True}),
)


def test_a_replay_of_a_file(http: httpx.Client, server: Server, tmp_path: Path) -> None:
    made = lines(http, seed=6, steps=1)[-1]
    (tmp_path / "made.mp4").write_bytes(http.get(made["video"]["url"]).content)
    found = read_provenance(tmp_path / "made.mp4")
    replayed = http.post("/api/replay", json={"provenance": found, "stream": False}).json()
    assert replayed["video"]["sha256"] == made["video"]["sha256"]
    for part, twisted in (("components", {"vae": "sha256:" + "0" * 64}), ("adapters", None)):
        refused = http.post("/api/replay", json={"provenance": found | {part: twisted}})
        assert refused.status_code == 400
        assert f"is not made of the same {part}" in refused.json()["error"]
    for change in TWISTED:
        twisted = found | {"request": found["request"] | change}
        assert http.post("/api/replay", json={"provenance": twisted}).status_code == 400, change
    assert "libtorch" not in Path(f"/proc/{server.process.pid}/maps").read_text()


def test_a_replay_of_what_is_not_there(http: httpx.Client) -> None:
    for asked, status in (
        ({}, 400),
        ({"id": "video_" + "0" * 24}, 404),
        ({"id": "../../jobs.sqlite"}, 404),
        ({"provenance": {}}, 400),
        ({"provenance": {"model": "wan-toy"}}, 400),
        ({"provenance": {"model": "wan-toy", "request": {"prompt": 1}}}, 400),
        ({"provenance": {"model": "nothing", "request": {}}}, 404),
    ):
        assert http.post("/api/replay", json=asked).status_code == status, asked
