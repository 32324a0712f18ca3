"""Models over HTTP: listed, shown, copied, deleted, and made of files that clients bring."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.modelfile.files import save_parts
from tests.server.serving import Server
from wanrun.modelfile import grammar


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    return save_parts(tmp_path / "parts")


@pytest.fixture(autouse=True)
def only_wan_toy(http: httpx.Client) -> Iterator[None]:
    yield
    for model in http.get("/api/tags").json()["models"]:
        if model["name"] != "wan-toy:latest":
            http.request("DELETE", "/api/delete", json={"model": model["name"]})


def bring(http: httpx.Client, path: Path) -> str:
    digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    with path.open("rb") as file:
        assert http.post(f"/api/blobs/{digest}", content=file).status_code in (200, 201)
    return digest


def names(http: httpx.Client) -> list[str]:
    return [model["name"] for model in http.get("/api/tags").json()["models"]]


def test_the_list(http: httpx.Client, server: Server) -> None:
    (model,) = http.get("/api/tags").json()["models"]
    assert (model["name"], model["model"]) == ("wan-toy:latest", "wan-toy:latest")
    manifest = server.home / "manifests" / "wanrun.local" / "library" / "wan-toy" / "latest"
    assert model["digest"] == hashlib.sha256(manifest.read_bytes()).hexdigest()
    assert model["details"]["family"] == "wan"
    assert model["details"]["parameter_size"].endswith("M")
    assert http.head("/api/tags").status_code == 200


def test_what_a_model_is(http: httpx.Client) -> None:
    shown = http.post("/api/show", json={"name": "Wan-Toy", "model": ""}).json()
    assert shown["capabilities"] == ["video"]
    assert shown["model_info"]["general.architecture"] == "wan"
    assert shown["model_info"]["wan.expert_count"] == 2
    assert "steps".ljust(30) in shown["parameters"]
    assert shown["settings"]["size"] == "64x64"
    assert isinstance(shown["settings"]["steps"], int)
    assert "negative_prompt" in shown["settings"]
    written = grammar.parse(shown["modelfile"].encode())
    assert all(line.reference.startswith("sha256:") for line in written.components)
    assert http.post("/api/show", json={}).json() == {"error": "model is required"}
    missing = http.post("/api/show", json={"model": "nothing"})
    assert (missing.status_code, missing.json()) == (404, {"error": "model 'nothing' not found"})


def test_a_model_that_the_library_knows_and_the_store_does_not(http: httpx.Client) -> None:
    """Ollama's client pulls what is not found; what is shipped whole needs no pulling."""
    missing = http.post("/api/show", json={"model": "wan2.2-ti2v-5b"})
    assert missing.status_code == 404
    assert missing.json()["error"].startswith("model 'wan2.2-ti2v-5b' not found: it is known")
    shown = http.post("/api/show", json={"model": "wan-toy:q8_0"})
    assert shown.json()["details"]["quantization_level"] == "Q8_0"
    assert "wan-toy:q8_0" in names(http)


def test_copies(http: httpx.Client) -> None:
    copied = http.post("/api/copy", json={"source": "wan-toy", "destination": "mine:v1"})
    assert (copied.status_code, copied.content) == (200, b"")
    assert names(http) == ["mine:v1", "wan-toy:latest"]
    deleted = http.request("DELETE", "/api/delete", json={"name": "mine:v1"})
    assert (deleted.status_code, deleted.content) == (200, b"")
    again = http.request("DELETE", "/api/delete", json={"model": "mine:v1"})
    assert (again.status_code, again.json()) == (404, {"error": "model 'mine:v1' not found"})
    missing = http.post("/api/copy", json={"source": "none", "destination": "x"})
    assert (missing.status_code, missing.json()) == (404, {"error": 'model "none" not found'})
    wrong = http.post("/api/copy", json={"source": "../x", "destination": "x"})
    assert (wrong.status_code, wrong.json()) == (400, {"error": 'source "../x" is invalid'})
    wrong = http.post("/api/copy", json={"source": "wan-toy", "destination": "a b"})
    assert wrong.json() == {"error": 'destination "a b" is invalid'}
    assert http.request("DELETE", "/api/delete", json={"model": "/"}).json() == {
        "error": 'name "/" is invalid'
    }


def test_blobs(http: httpx.Client, server: Server) -> None:
    data = b"x" * 3_000_000
    hexadecimal = hashlib.sha256(data).hexdigest()
    assert http.head(f"/api/blobs/sha256:{hexadecimal}").status_code == 404
    assert http.post(f"/api/blobs/sha256:{hexadecimal}", content=iter([data])).status_code == 201
    assert http.head(f"/api/blobs/sha256-{hexadecimal}").status_code == 200
    assert http.post(f"/api/blobs/sha256:{hexadecimal}", content=data).status_code == 200
    assert (server.home / "blobs" / f"sha256-{hexadecimal}").read_bytes() == data
    wrong = http.post(f"/api/blobs/sha256:{'0' * 64}", content=b"other")
    assert wrong.status_code == 400
    assert wrong.json()["error"].startswith(f'digest mismatch, expected "sha256:{"0" * 64}", got')
    assert not (server.home / "blobs" / f"sha256-{'0' * 64}").exists()
    assert not list((server.home / "blobs").glob(".part-*"))


def test_a_model_of_files_that_were_brought(http: httpx.Client, parts: Path) -> None:
    files = {path.name: bring(http, path) for path in sorted(parts.iterdir()) if path.name != "Modelfile"}
    asked = {
        "model": "made",
        "files": files,
        "parameters": {"steps": 3},
        "system": "s",
        "license": ["a", "b"],
    }
    made = http.post("/api/create", json=asked | {"stream": False})
    assert (made.status_code, made.json()) == (200, {"status": "success"}), made.text
    shown = http.post("/api/show", json={"model": "made"}).json()
    assert (shown["settings"]["steps"], shown["license"], shown["system"]) == (3, "a\nb", "s")
    built = http.post("/api/create", json={"model": "on-it", "from": "made", "template": "{{ prompt }}, 8k"})
    assert json.loads(built.text.splitlines()[-1]) == {"status": "success"}
    assert http.post("/api/show", json={"model": "on-it"}).json()["template"] == "{{ prompt }}, 8k"


def test_a_model_whose_experts_are_quantised(http: httpx.Client, server: Server) -> None:
    made = http.post("/api/create", json={"model": "small", "from": "wan-toy", "quantize": "q4_k_m"})
    lines = [json.loads(line) for line in made.text.splitlines()]
    assert lines[-1] == {"status": "success"}, lines
    progress = [line for line in lines if line["status"] == "quantizing model to Q4_K_M"]
    assert progress[-1]["completed"] == progress[-1]["total"] > 100
    sizes = {model["name"]: model["size"] for model in http.get("/api/tags").json()["models"]}
    assert sizes["small:latest"] < sizes["wan-toy:latest"]
    assert http.post("/api/show", json={"model": "small"}).json()["details"]["quantization_level"] == "Q4_K"
    shipped = http.post("/api/pull", json={"model": "wan-toy:q4_k_m", "stream": False})
    assert shipped.json() == {"status": "success"}
    assert "libtorch" not in Path(f"/proc/{server.process.pid}/maps").read_text()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"model": "x"}, "neither 'from' or 'files' was specified"),
        ({"model": "../x", "from": "wan-toy"}, "invalid model name"),
        ({"model": "x", "from": "/etc/passwd"}, "invalid model name"),
        ({"model": "x", "files": {"../../etc/passwd": "sha256:" + "0" * 64}}, "file path must be relative"),
        ({"model": "x", "files": {"/etc/passwd": "sha256:" + "0" * 64}}, "file path must be relative"),
        ({"model": "x", "files": {"a": "sha256:../../etc/passwd"}}, "invalid digest format"),
        ({"model": "x", "files": {"a": ""}}, "invalid digest format"),
        ({"model": "x", "files": {"a": "sha256:" + "0" * 64}}, "is not here"),
        ({"model": "x", "from": "wan-toy", "parameters": {"stepz": 1}}, "did you mean 'steps'"),
        ({"model": "x", "from": "wan-toy", "parameters": {"steps": [1]}}, "steps must be"),
        ({"model": "x", "from": "wan-toy", "quantize": "Q4_K_XXL"}, "'Q4_K_XXL' is no type that can be made"),
        ({"model": "x", "from": "wan-toy", "quantize": "/etc/passwd"}, "is no type that can be made"),
    ],
)
def test_what_makes_no_model(http: httpx.Client, asked: dict[str, object], words: str) -> None:
    refused = http.post("/api/create", json=asked)
    assert refused.status_code == 400
    assert words in refused.json()["error"]
    assert names(http) == ["wan-toy:latest"]


def test_whether_a_file_exists_is_not_told(http: httpx.Client) -> None:
    """CVE-2024-39719: an existing and a missing path have the same answer."""
    answers = {
        http.post("/api/create", json={"model": "x", "from": path, "stream": False}).text.replace(path, "")
        for path in ("etc/passwd", "etc/nothing", "usr/bin", "blobs/x")
    }
    assert answers == {'{"error":"model \'\' not found"}'}


@pytest.mark.parametrize("task", ["chat", "embed", "embeddings"])
def test_what_video_models_cannot_do(http: httpx.Client, task: str) -> None:
    refused = http.post(f"/api/{task}", json={"model": "wan-toy", "messages": [], "input": "x"})
    assert refused.status_code == 400
    assert refused.json()["error"].startswith('"wan-toy" does not support ')
    assert http.post(f"/api/{task}", json={"model": "nothing"}).status_code == 404
