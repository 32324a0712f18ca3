"""The commands about a server: serve, ps, stop, jobs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.cli.conftest import done, refused
from tests.server.serving import Server, serving, start

LONG = {"model": "wan-toy", "prompt": "a red ball on a blue surface that bounces on and on", "size": "32x32"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("serve"), WANRUN_API_KEY="s3cret") as started:
        yield started


@pytest.fixture
def asked(running: Server, monkeypatch: pytest.MonkeyPatch) -> httpx.Client:
    """Commands ask the server; so does the client."""
    monkeypatch.setenv("WANRUN_HOST", f"127.0.0.1:{running.port}")
    monkeypatch.setenv("WANRUN_API_KEY", "s3cret")
    return httpx.Client(base_url=running.url, headers={"Authorization": "Bearer s3cret"}, timeout=60)


def test_models_that_are_loaded(asked: httpx.Client) -> None:
    assert done("ps").split() == ["NAME", "ID", "SIZE", "PROCESSOR", "UNTIL"]
    assert 'couldn\'t find model "wan-toy" to stop' in refused("stop", "wan-toy")
    asked.post("/api/generate", json={"model": "wan-toy", "keep_alive": "10m"})
    row = done("ps").splitlines()[1]
    assert row.startswith("wan-toy:latest    ")
    assert row.endswith(" minutes from now")
    assert "100% CPU" in row
    assert done("stop", "wan-toy") == ""
    asked.post("/api/generate", json={"model": "wan-toy", "keep_alive": -1})
    assert done("ps").splitlines()[1].endswith("Forever")
    done("stop", "wan-toy")
    asked.close()


def test_jobs_are_listed_shown_cancelled_and_deleted(asked: httpx.Client) -> None:
    made = [asked.post("/v1/videos", json=LONG | {"num_inference_steps": 900}).json()["id"] for _ in range(2)]
    header, newest, older = done("jobs").splitlines()
    assert header.split() == ["ID", "STATUS", "MODEL", "PROMPT", "CREATED"]
    assert (newest.split()[0], older.split()[0]) == (made[1], made[0])
    assert len(done("jobs", "list", "-n", "1").splitlines()) == 2
    assert json.loads(done("jobs", "show", made[0]))["id"] == made[0]
    assert done("jobs", "cancel", *reversed(made)) == "".join(
        f"cancelled '{each}'\n" for each in reversed(made)
    )
    while asked.get(f"/v1/videos/{made[0]}").json()["status"] == "in_progress":
        pass
    assert done("jobs", "rm", *made).startswith("deleted 'video_")
    assert len(done("jobs").splitlines()) == 1
    for words in (("show", made[0]), ("show", "../../api/tags"), ("cancel", "nothing")):
        assert "there is no job" in refused("jobs", *words)
    asked.close()


def test_a_finished_video_is_fetched(
    asked: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    quick = LONG | {"num_frames": 5, "num_inference_steps": 1, "seed": 4, "format": "webm"}
    video_id = asked.post("/v1/videos", json=quick).json()["id"]
    asked.get(f"/v1/videos/{video_id}/events")  # until it is over
    said = [done("jobs", "fetch", video_id, *more) for more in ((), (), ("-o", "mine"))]
    names = [Path(line.split("  ")[0]).name for line in said]
    assert names == [
        "a-red-ball-on-a-blue-surface-that-bounces-on-and-o-4.webm",
        "a-red-ball-on-a-blue-surface-that-bounces-on-and-o-4-2.webm",
        "mine.webm",
    ]
    assert said[0].endswith("(32x32, 5 frames, seed 4)\n")
    data = asked.get(f"/v1/videos/{video_id}/content").content
    assert {(tmp_path / name).read_bytes() for name in names} == {data}
    assert ".mp4 but the format is webm" in refused("jobs", "fetch", video_id, "-o", "x.mp4")
    assert "there is no folder" in refused("jobs", "fetch", video_id, "-o", "nowhere/x.webm")
    waiting = asked.post("/v1/videos", json=LONG | {"num_inference_steps": 900}).json()["id"]
    assert f"{waiting} has no video" in refused("jobs", "fetch", waiting)
    assert "there is no job" in refused("jobs", "fetch", "../../etc/passwd")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    asked.post(f"/v1/videos/{waiting}/cancel")
    asked.close()


def test_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("WANRUN_HOST", f"127.0.0.1:{taken.getsockname()[1]}")
        for words in (("ps",), ("stop", "wan-toy"), ("jobs",), ("jobs", "show", "video_1")):
            assert "no server answers at http://127.0.0.1:" in refused(*words)


def test_a_wrong_key(asked: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANRUN_API_KEY", "wrong")
    assert "send the server's key" in refused("ps")
    asked.close()


def test_an_address_that_cannot_be_had(running: Server, home: Path) -> None:
    taken = subprocess.run(
        [sys.executable, "-P", "-m", "wanrun.cli", "serve"],
        env=os.environ | {"WANRUN_HOME": str(home), "WANRUN_HOST": f"127.0.0.1:{running.port}"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert taken.returncode == 1
    assert taken.stderr == (
        f"Error: cannot listen on 127.0.0.1:{running.port}: another program, perhaps another 'wanrun serve', "
        "has it; set WANRUN_HOST to another address\n"
    )


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("HOST", "0.0.0.0:0", "other machines can reach 0.0.0.0: set WANRUN_API_KEY"),
        ("HOST", "[::]:0", "other machines can reach ::"),
        ("HOST", "127.0.0.1:99999", "WANRUN_HOST must be HOST:PORT"),
        ("KEEP_ALIVE", "5 minutes", "WANRUN_KEEP_ALIVE must be a duration"),
        ("MAX_QUEUE", "0", "WANRUN_MAX_QUEUE must be a whole number above 0"),
        ("OUTPUTS", "much", "WANRUN_OUTPUTS must be a size"),
    ],
)
def test_settings_that_are_none(
    monkeypatch: pytest.MonkeyPatch, setting: str, value: str, words: str
) -> None:
    chosen = {"HOST": "127.0.0.1:0", "PRIVATE": "off", setting: value}
    for name, each in chosen.items():
        monkeypatch.setenv(f"WANRUN_{name}", each)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert words in refused("serve")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_end_keeps_jobs(tmp_path: Path, number: signal.Signals) -> None:
    """A client that listens is told; the job waits for the next server."""
    with serving(tmp_path) as first:
        with httpx.stream(
            "POST",
            f"{first.url}/api/generate",
            json={"model": "wan-toy", "prompt": "x", "width": 32, "height": 32, "frames": 5, "steps": 900},
            timeout=60,
        ) as response:
            lines = response.iter_lines()
            job = json.loads(next(lines))["id"]
            first.process.send_signal(number)
            *_, last = lines
        assert "goes on when it is started again" in json.loads(last)["error"]
        assert first.process.wait(30) == 0
    with start(first.home, first.log) as second:
        assert httpx.get(f"{second.url}/v1/videos/{job}").json()["status"] in ("queued", "in_progress")
    assert first.log.read_text() == ""


def test_the_key_is_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANRUN_API_KEY", "s3cret-k3y")
    shown = done("doctor")
    assert "s3cret-k3y" not in shown
    assert "WANRUN_API_KEY" in shown
