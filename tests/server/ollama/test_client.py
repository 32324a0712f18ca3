"""The unmodified ``ollama`` client, synchronous and asynchronous: every call that it has."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from base64 import b64decode
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest

from tests.modelfile.files import save_parts
from tests.server.serving import Server, serving
from tests.sources.oci import servers as registries

SMALL: dict[str, Any] = {"model": "wan-toy", "prompt": "a red ball", "width": 32, "height": 32, "steps": 1}
FEW = {"seed": 1, "frames": 5}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[registries.Registry]:
    with registries.registry(tmp_path_factory.mktemp("registry") / "new") as running:
        yield running


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that may use a registry on this machine."""
    with serving(tmp_path_factory.mktemp("own"), WANRUN_PRIVATE="on") as started:
        yield started


@pytest.fixture
def client(own: Server) -> Iterator[ollama.Client]:
    made = ollama.Client(host=own.url, timeout=120)
    yield made
    for model in made.list().models:
        if model.model != "wan-toy:latest":
            made.delete(model.model or "")
    made._client.close()


def run(server: Server, act: Callable[[ollama.AsyncClient], Coroutine[Any, Any, None]]) -> None:
    async def within() -> None:
        made = ollama.AsyncClient(host=server.url, timeout=120)
        try:
            await act(made)
        finally:
            await made._client.aclose()

    asyncio.run(within())


def test_list_show_and_ps(client: ollama.Client) -> None:
    (model,) = client.list().models
    assert model.model == "wan-toy:latest"
    assert model.modified_at is not None
    assert len(model.digest or "") == 64
    assert (model.size or 0) > 1000
    assert model.details is not None
    shown = client.show("wan-toy")
    assert shown.capabilities == ["video"]
    assert (shown.modelinfo or {})["general.architecture"] == "wan"
    assert "FROM" in (shown.modelfile or "")
    assert shown.modified_at is not None
    assert client.generate("wan-toy").done_reason == "load"
    (running,) = client.ps().models
    assert (running.name, running.context_length, running.size_vram) == ("wan-toy:latest", 512, 0)
    assert running.expires_at is not None
    assert client.generate("wan-toy", keep_alive=0).done_reason == "unload"
    assert client.ps().models == []
    with pytest.raises(ollama.ResponseError, match="model 'nothing' not found") as missing:
        client.show("nothing")
    assert missing.value.status_code == 404


def test_generate(client: ollama.Client, own: Server) -> None:
    *progress, last = client.generate(**SMALL, options=FEW, keep_alive="10m", stream=True)
    assert {part.total for part in progress if part.total} == {1}
    assert last.done
    assert last.done_reason == "stop"
    assert b64decode(last.image or "").startswith(b"\x89PNG")
    assert (last.total_duration or 0) > 0
    assert client.generate(**SMALL, options=FEW).image == last.image
    with pytest.raises(ollama.ResponseError, match="does not support images"):
        client.generate(**SMALL, images=[b"x"])
    with pytest.raises(ollama.ResponseError, match="steps must be"):
        client.generate("wan-toy", "x", steps=10_000_000)


def test_copy_and_delete(client: ollama.Client) -> None:
    assert client.copy("wan-toy", "mine").status == "success"
    assert client.delete("mine").status == "success"
    with pytest.raises(ollama.ResponseError, match="model 'mine' not found") as missing:
        client.delete("mine")
    assert missing.value.status_code == 404


def test_create(client: ollama.Client, tmp_path: Path) -> None:
    parts = [path for path in save_parts(tmp_path / "parts").iterdir() if path.name != "Modelfile"]
    files = {path.name: client.create_blob(path) for path in parts}
    assert {path.name: client.create_blob(path) for path in parts} == files
    assert all(
        digest == f"sha256:{hashlib.sha256((tmp_path / 'parts' / name).read_bytes()).hexdigest()}"
        for name, digest in files.items()
    )
    made = client.create("made", files=files, system="s", license=["l"], parameters={"steps": 2})
    assert made.status == "success"
    statuses = [
        part.status for part in client.create("built", from_="made", template="{{ prompt }}!", stream=True)
    ]
    assert statuses[-2:] == ["writing manifest", "success"]
    assert client.show("built").template == "{{ prompt }}!"
    assert "steps" in (client.show("built").parameters or "")
    with pytest.raises(ollama.ResponseError, match="model 'nothing' not found"):
        client.create("x", from_="nothing")


def test_push_and_pull(client: ollama.Client, registry: registries.Registry) -> None:
    name = f"{registry.host}/me/toy:v1"
    client.copy("wan-toy", name)
    pushed = list(client.push(name, insecure=True, stream=True))
    assert (pushed[0].status, pushed[-1].status) == ("retrieving manifest", "success")
    assert any(part.status == f"pushing {(part.digest or '')[7:19]}" for part in pushed)
    assert client.push(name).status == "success"
    client.delete(name)
    for part in client.pull(name, stream=True):
        if part.digest:
            break
    pulled = list(client.pull(name, stream=True))
    assert pulled[0].status == "pulling manifest"
    assert [part.status for part in pulled[-3:]] == ["verifying sha256 digest", "writing manifest", "success"]
    assert all((part.completed or 0) <= (part.total or 0) for part in pulled)
    assert any(part.status == f"pulling {(part.digest or '')[7:19]}" for part in pulled)
    assert client.pull(name).status == "success"
    with pytest.raises(ollama.ResponseError, match="not found"):
        client.pull(f"{registry.host}/me/none")
    with pytest.raises(ollama.ResponseError, match="names no registry"):
        client.push("wan-toy")


def test_what_a_video_model_cannot_do(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match='"wan-toy" does not support chat') as refused:
        client.chat("wan-toy", [{"role": "user", "content": "hello"}])
    assert refused.value.status_code == 400
    with pytest.raises(ollama.ResponseError, match="does not support embeddings"):
        client.embed("wan-toy", "hello")
    with pytest.raises(ollama.ResponseError, match="does not support embeddings"):
        client.embeddings("wan-toy", "hello")


def test_the_asynchronous_client(own: Server, tmp_path: Path, registry: registries.Registry) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100_000)
    name = f"{registry.host}/me/other:v1"

    async def everything(client: ollama.AsyncClient) -> None:
        assert [model.model for model in (await client.list()).models] == ["wan-toy:latest"]
        assert (await client.show("wan-toy")).capabilities == ["video"]
        assert (await client.create_blob(path)).startswith("sha256:")
        assert (await client.create("x", from_="wan-toy", system="s")).status == "success"
        assert (await client.copy("x", name)).status == "success"
        assert (await client.push(name)).status == "success"
        assert [part.status async for part in await client.pull(name, stream=True)][-1] == "success"
        heard = [part async for part in await client.generate(**SMALL, options=FEW, stream=True)]
        assert heard[-1].image
        assert (await client.ps()).models[0].name == "wan-toy:latest"
        assert (await client.generate("wan-toy", keep_alive=0)).done_reason == "unload"
        for made in ("x", name):
            assert (await client.delete(made)).status == "success"
        with pytest.raises(ollama.ResponseError, match="does not support chat"):
            await client.chat("wan-toy", [])
        with pytest.raises(ollama.ResponseError, match="not found"):
            await client.pull(f"{registry.host}/me/none")

    run(own, everything)


def test_the_modules_own_functions_and_a_host_of_the_environment(http: httpx.Client, server: Server) -> None:
    code = "import ollama; print(ollama.list().models[0].model, ollama.show('wan-toy').capabilities)"
    said = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"OLLAMA_HOST": server.url},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "wan-toy:latest ['video']\n"


def test_an_empty_store_and_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tmp_path, WANRUN_API_KEY="k3y") as server:
        monkeypatch.setenv("OLLAMA_API_KEY", "k3y")
        with_key = ollama.Client(host=server.url)
        with_key.delete("wan-toy")
        assert with_key.list().models == []
        assert with_key.ps().models == []
        with_key._client.close()
        monkeypatch.delenv("OLLAMA_API_KEY")
        without = ollama.Client(host=server.url)
        with pytest.raises(ollama.ResponseError, match="send the server's key") as refused:
            without.list()
        assert refused.value.status_code == 401
        without._client.close()


def test_a_server_that_is_not_there() -> None:
    nowhere = ollama.Client(host=f"http://127.0.0.1:{registries.free_port()}")
    with pytest.raises(ConnectionError, match="Failed to connect to Ollama"):
        nowhere.list()
    nowhere._client.close()


def test_pulling_from_this_machine_is_refused_by_default(
    http: httpx.Client, registry: registries.Registry
) -> None:
    before = registry.requests()
    answer = http.post("/api/pull", json={"model": f"{registry.host}/me/toy", "stream": False})
    assert answer.status_code == 400
    assert "private network" in answer.json()["error"]
    assert registry.requests() == before
