"""``wanrun run`` where a server answers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from tests.modelfile.files import lora, save
from tests.server.idle import idle
from tests.server.serving import Server, serving
from wanrun import __version__, load
from wanrun.cli import remote
from wanrun.cli.client import connected
from wanrun.cli.saving import Video
from wanrun.errors import InvalidRequest
from wanrun.request import resolve
from wanrun.store import pulling
from wanrun.store.creation import quiet
from wanrun.store.names import parse_name
from wanrun.store.store import Store, open_store
from wanrun.types import Bundle

_QUICK = ("--steps", "2", "--frames", "6", "--size", "33x32", "--seed", "3", "--guidance-high", "2.5")
_LONG = ("run", "wan-toy", "a red ball", "--steps", "1000", "--seed", "3", "-o", "x.mp4")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("remote"), WANRUN_API_KEY="s3cret", WANRUN_MEMORY="2GB") as started:
        yield started


@pytest.fixture
def asked(running: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    """Commands ask the server and have its home; so does the client."""
    monkeypatch.setenv("WANRUN_HOST", f"127.0.0.1:{running.port}")
    monkeypatch.setenv("WANRUN_HOME", str(running.home))
    monkeypatch.setenv("WANRUN_DEVICE", "cpu")
    monkeypatch.setenv("WANRUN_API_KEY", "s3cret")
    headers = {"Authorization": "Bearer s3cret"}
    with httpx.Client(base_url=running.url, headers=headers, timeout=60) as client:
        yield client


def started(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "wanrun.cli", *arguments],
        cwd=cwd, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        # a suite that a script runs in the background ignores interrupts, and so would its children
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def done(*arguments: str, cwd: Path) -> tuple[str, str]:
    """Both outputs of a command that succeeds."""
    process = started(*arguments, cwd=cwd)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out, err


def jobs(client: httpx.Client) -> list[dict[str, str]]:
    return list(client.get("/v1/videos").json()["data"])


@contextmanager
def pretender(answers: dict[str, bytes], status: int = 200, **headers: str) -> Iterator[int]:
    """The port of a program that answers so."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(answers.get(self.path, b"{}"))

        def log_message(self, format: str, *values: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def _answers(bundle: Bundle, version: object = __version__, digest: str | None = None) -> dict[str, bytes]:
    name = parse_name(bundle.name)
    model = {"name": str(name), "digest": digest or open_store().manifest(name).digest.hex}
    tags = {"models": [None, 3, model]}
    return {
        "/api/version": json.dumps({"version": version}).encode(),
        "/api/tags": json.dumps(tags).encode(),
    }


def test_only_the_same_model_of_the_same_version_is_used(
    asked: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever else listens there is left alone, and is no reason not to run."""
    bundle = load("wan-toy")
    assert remote.serves(bundle)
    sound = _answers(bundle)
    for others in (
        _answers(bundle, version="0.13.5"),  # Ollama itself
        _answers(bundle, version=None),
        _answers(bundle, digest="0" * 64),  # another home, where the name means something else
        sound | {"/api/tags": b'{"models": null}'},
        sound | {"/api/tags": b"[]"},
        sound | {"/api/version": b"\xff\x00 no JSON"},
        {},
    ):
        with pretender(others) as port:
            monkeypatch.setenv("WANRUN_HOST", f"127.0.0.1:{port}")
            assert not remote.serves(bundle)
    with pretender(sound) as port:
        monkeypatch.setenv("WANRUN_HOST", f"127.0.0.1:{port}")
        assert remote.serves(bundle)
    for broken in ({"status": 500}, {"status": 401}, {"Content_Encoding": "gzip"}):
        with pretender(sound, **broken) as port:
            monkeypatch.setenv("WANRUN_HOST", f"127.0.0.1:{port}")
            assert not remote.serves(bundle)


def test_nobody_who_answers(asked: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that refuses, one where nothing is ever said, names that are none; and a wrong key."""
    bundle = load("wan-toy")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        for listening in (False, True):
            if listening:
                silent.listen()
            monkeypatch.setenv("WANRUN_HOST", f"127.0.0.1:{silent.getsockname()[1]}")
            assert not remote.serves(bundle)
    for host in ("127.0.0.1:0", "a..b:80", f"{'x' * 70}.invalid:80"):
        monkeypatch.setenv("WANRUN_HOST", host)
        assert not remote.serves(bundle)
    monkeypatch.setenv("WANRUN_HOST", "no port:here")
    with pytest.raises(InvalidRequest, match="WANRUN_HOST must be"):
        remote.serves(bundle)


def test_a_wrong_key_is_no_server(asked: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANRUN_API_KEY", "wrong")
    assert not remote.serves(load("wan-toy"))


def test_what_a_server_does_not_take(asked: httpx.Client, tmp_path: Path) -> None:
    bundle = load("wan-toy")
    request = resolve(bundle, "x", {})
    for name, prompt, takes in (
        ("x.mp4", "x", True),
        ("x.gif", "x" * 32_000, True),
        ("x.png", "x", False),
        ("x.webm", "x" * 32_001, False),
    ):
        video = Video(bundle, request, str(tmp_path / name), None)
        assert remote.can_make(video, prompt) == takes
    with pytest.raises(InvalidRequest, match="no folder"):
        remote.can_make(Video(bundle, request, str(tmp_path / "no" / "x.mp4"), None), "x")


@pytest.mark.parametrize("kind", ["mp4", "gif"])
def test_the_same_output_wherever_it_is_made(kind: str, asked: httpx.Client, tmp_path: Path) -> None:
    """``--device`` has it made in process: files, words and JSON differ in nothing but numbers of time."""
    before = len(jobs(asked))
    attention = {name: shape for name, shape in lora(256, layers=4).items() if "attn" in name}
    adapter = save(tmp_path / "style.safetensors", attention, 0.05)
    quick = (*_QUICK, "--lora", f"high_noise={adapter}:0.5") if kind == "gif" else _QUICK
    told = []
    for place, more in (("there", ()), ("here", ("--device", "cpu"))):
        folder = tmp_path / place
        folder.mkdir()
        command = ("run", "wan-toy", "A red ball!", *quick, "--format", kind, *more)
        out, err = done(*command, cwd=folder)
        path = folder / f"a-red-ball-3.{kind}"
        assert out.startswith(f"{path}  (32x32, 5 frames, seed 3, ")
        made = path.read_bytes()
        found = json.loads(done(*command, "-o", f"./again.{kind}", "--json", cwd=folder)[0])
        assert Path(found.pop("path")) == folder / f"again.{kind}"
        assert found.pop("seconds") > 0
        assert (folder / f"again.{kind}").read_bytes() == made
        words = [line.partition(",")[0] for line in err.splitlines()]
        told.append((made, list(found), found, [line for line in words if not line.endswith("0/0")]))
        assert len(jobs(asked)) == before + 2
        assert sorted(each.name for each in folder.iterdir()) == [path.name, f"again.{kind}"]
    there, here = told
    assert there[:3] == here[:3]
    ends = ("Note", "Plan", "reading the prompt: 2/2", "denoising: 2/2", "decoding: 5/5")
    for end in ends:
        assert [each for each in there[3] if each.startswith(end)] == [
            each for each in here[3] if each.startswith(end)
        ]


def test_a_server_that_measures_its_machine_says_so(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pulling.pull(Store(home), "wan-toy", quiet)
    with idle(home) as server:
        monkeypatch.setenv("WANRUN_HOST", server.url.removeprefix("http://"))
        for words in (["The server is measuring its machine; it happens", "Plan: "], ["Plan: "]):
            with connected() as client:
                remote._plan(client, {"model": "wan-toy", "prompt": "x"}, quiet=False)
            said = capsys.readouterr().err.splitlines()
            assert [line[: len(start)] for line, start in zip(said, words, strict=True)] == words


def test_what_is_refused_leaves_nothing(asked: httpx.Client, tmp_path: Path) -> None:
    before = len(jobs(asked))
    for more, words in {
        ("--size", "4096x4096", "--frames", "29"): "It fits with",
        ("--size", "4096x4096", "--frames", "1025"): "WANRUN_MAX_PIXELS",
        ("-o", "no/x.mp4"): "no folder",
    }.items():
        process = started("run", "wan-toy", "a red ball", *more, cwd=tmp_path)
        _, err = process.communicate(timeout=300)
        assert process.returncode == 1
        assert words in err
        assert "Traceback" not in err
    assert len(jobs(asked)) == before
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_cancels_it_on_the_server(asked: httpx.Client, tmp_path: Path) -> None:
    process = started(*_LONG, cwd=tmp_path)
    assert _begun(process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    newest = jobs(asked)[0]
    assert f"Stopped. {newest['id']} is cancelled on the server." in err
    assert "Traceback" not in err
    while (state := asked.get(f"/v1/videos/{newest['id']}").json()["status"]) == "in_progress":
        pass
    assert state == "cancelled"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_that_ends_says_how_to_go_on(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    try:
        with serving(tmp_path) as server:
            monkeypatch.setenv("WANRUN_HOST", f"127.0.0.1:{server.port}")
            monkeypatch.setenv("WANRUN_HOME", str(server.home))
            process = started(*_LONG, cwd=folder)
            assert _begun(process)
            os.kill(server.process.pid, number)
            _, err = process.communicate(timeout=60)
            server.process.wait(60)  # or a second signal meets it at the very end of its first
    except AssertionError:
        if number != signal.SIGKILL:  # which is no clean end
            raise
    assert process.returncode == 1
    assert "Error: the server has ended: video_" in err
    assert "goes on when it is started again ('wanrun serve')" in err
    assert "Traceback" not in err
    assert list(folder.iterdir()) == []


def _begun(process: subprocess.Popen[str]) -> bool:
    """Wait until it denoises."""
    assert process.stderr is not None
    return any(line.startswith("denoising") for line in process.stderr)
