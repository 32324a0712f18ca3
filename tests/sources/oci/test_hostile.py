"""A registry that lies: whatever it answers, the store stays as it was and the error says why."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.modelfile.files import lora, save
from tests.sources.oci.servers import Answering, Exchange, Fake, fake, send_range, serving
from tests.store import invariants
from wanrun.errors import DownloadError, FormatError, InvalidRequest, WanrunError
from wanrun.sources.download import Policy
from wanrun.sources.oci import pull, push
from wanrun.sources.oci.client import Client
from wanrun.sources.oci.pulling import get_manifest
from wanrun.sources.oci.repository import Repository
from wanrun.sources.oci.uploading import begin
from wanrun.store.creation import quiet
from wanrun.store.manifests import ADAPTER_TYPE, MANIFEST_TYPE
from wanrun.store.names import parse_name
from wanrun.store.store import Store

Shared = tuple[bytes, dict[str, bytes]]
OTHER = "sha256:" + "0" * 64


@pytest.fixture(autouse=True)
def few_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wanrun.sources.download.download.__defaults__", (Policy(tries=2, pause_s=0.01),))


def refused(store: Store, answer: Answering, kind: type[WanrunError], problem: str) -> Fake:
    """Pulls from a registry that answers so; nothing may be left but half-finished downloads."""
    outside = store.home.parent / "canary"
    outside.write_bytes(b"untouched")
    with fake(answer) as server:
        with pytest.raises(kind, match=problem) as caught:
            pull(store, parse_name(f"{server.host}/evil/wan:a"), quiet)
        assert len(str(caught.value)) < 1500
    assert store.list() == ()
    assert store.damaged() == ()
    assert sorted(path.name for path in store.home.parent.iterdir() if path.name != "hers") == [
        "canary",
        "his",
    ]
    assert outside.read_bytes() == b"untouched"
    invariants.hold(store)
    return server


def edited(data: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    manifest = json.loads(data)
    change(manifest)
    return json.dumps(manifest).encode()


def always(status: int, headers: dict[str, str], body: bytes = b"") -> Answering:
    return lambda exchange: exchange.reply(status, headers, body)


def repository(server: Fake) -> Repository:
    return Repository(server.host, "a/b")


def layer(index: int, **fields: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda manifest: manifest["layers"][index].update(fields)


def note(key: str, value: str) -> Callable[[dict[str, Any]], Any]:
    return lambda manifest: manifest["layers"][0]["annotations"].update({key: value})


TITLE, ROLE = "org.opencontainers.image.title", "dev.wanrun.role"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (layer(0, digest="sha256:../../../../canary"), "not a sha256 digest"),
        (layer(0, digest="sha256-" + "0" * 64), "not a sha256 digest"),
        (layer(0, digest="sha256:" + "0" * 63), "not a sha256 digest"),
        (layer(0, digest="sha256:" + "0" * 65), "not a sha256 digest"),
        (layer(0, digest="sha256:" + "A" * 64), "not a sha256 digest"),
        (layer(0, digest="sha512:" + "0" * 128), "not a sha256 digest"),
        (layer(0, digest=None), "not a sha256 digest"),
        (layer(0, size=-1), "number of bytes"),
        (layer(0, size=1e30), "number of bytes"),
        (layer(0, urls=["http://169.254.169.254/"]), "lies elsewhere"),
        (note(TITLE, "../../canary"), "plain file name"),
        (note(TITLE, "/etc/passwd"), "plain file name"),
        (note(TITLE, "C:\\canary"), "plain file name"),
        (note(TITLE, ".."), "plain file name"),
        (note(TITLE, "a\x1b[2Jb"), "plain file name"),
        (note(TITLE, "a\u202eb"), "plain file name"),
        (note(TITLE, "a" * 256), "plain file name"),
        (note(ROLE, "../vae"), "one role each"),
        (note(ROLE, "vae"), "one role each"),
        (note(ROLE, ""), "one role each"),
        (lambda m: m["layers"].pop(), "one Modelfile"),
        (lambda m: m["layers"].append(m["layers"][-1]), "one Modelfile"),
        (lambda m: m.update(layers=m["layers"] * 1000), "layers must be"),
        (lambda m: m.update(layers=[]), "layers must be"),
        (lambda m: m.update(artifactType="application/vnd.other"), "artifactType"),
        (lambda m: m.update(mediaType="application/vnd.oci.image.index.v1+json"), "mediaType"),
        (lambda m: m["layers"].pop(0), "names other files than its manifest"),
    ],
)
def test_manifests(his: Store, shared: Shared, change: Callable[[dict[str, Any]], Any], problem: str) -> None:
    data, blobs = shared
    server = refused(his, serving(edited(data, change), blobs), FormatError, problem)
    assert not any("high_noise" in path for path in server.asked("GET"))
    assert not his.blobs.exists() or list(his.blobs.iterdir()) == []


def test_manifests_that_are_none(his: Store) -> None:
    for body in (b"", b"<html>", b"[" * 100_000, b'{"schemaVersion": 2}', b"\xff\xfe"):
        refused(his, serving(body, {}), FormatError, "evil/wan:a: ")


def test_a_manifest_of_another_type(his: Store, shared: Shared) -> None:
    """An index, or the page of a login."""
    for kind in ("application/vnd.oci.image.index.v1+json", "text/html", ""):
        refused(his, always(200, {"Content-Type": kind}, shared[0]), FormatError, "not a single OCI")


def test_a_manifest_with_another_digest(his: Store, shared: Shared) -> None:
    headers = {"Content-Type": MANIFEST_TYPE, "Docker-Content-Digest": OTHER}
    refused(his, always(200, headers, shared[0]), DownloadError, "arrived as")
    headers["Docker-Content-Digest"] = str("sha256:" + hashlib.sha256(shared[0]).hexdigest())
    with fake(always(200, headers, shared[0])) as server, Client(repository(server), "pull") as client:
        assert get_manifest(client, "tag") == shared[0]
        with pytest.raises(DownloadError, match="arrived as"):
            get_manifest(client, OTHER)


def test_an_endless_manifest(his: Store) -> None:
    sent = []

    def endless(exchange: Exchange) -> None:
        exchange.reply(200, {"Content-Type": MANIFEST_TYPE, "Content-Length": str(1 << 40)}, b"{")
        for _ in range(100_000):
            exchange.handler.wfile.write(b" " * 65536)
            sent.append(65536)

    refused(his, endless, DownloadError, "more than 4194304 bytes")
    assert sum(sent) < 64 << 20


def test_a_manifest_that_drips(his: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wanrun.sources.oci.client._ANSWER_S", 0.3)

    def drip(exchange: Exchange) -> None:
        exchange.reply(200, {"Content-Type": MANIFEST_TYPE, "Content-Length": "1000"}, b"{")
        for _ in range(100):
            time.sleep(0.05)
            exchange.handler.wfile.write(b" ")

    refused(his, drip, DownloadError, "or for over")


def test_a_bomb(his: Store) -> None:
    headers = {"Content-Type": MANIFEST_TYPE, "Content-Encoding": "gzip"}
    refused(his, always(200, headers, b"\x1f\x8b"), DownloadError, "compressed")


def test_wrong_blobs(his: Store, shared: Shared) -> None:
    """Of the first component: other bytes, cut, too long, not there."""
    data, blobs = shared
    name = json.loads(data)["layers"][0]["digest"]
    right = blobs[name]
    wrong = bytes([*right[:-1], right[-1] ^ 1])
    refused(his, serving(data, {**blobs, name: wrong}), DownloadError, "digest")
    refused(his, serving(data, {**blobs, name: right[:-1]}), DownloadError, "and the manifest says")
    refused(his, serving(data, {**blobs, name: right + b"x"}), DownloadError, "and the manifest says")
    missing = {digest: blob for digest, blob in blobs.items() if digest != name}
    refused(his, serving(data, missing), DownloadError, "incomplete: blob .* is missing")
    with fake(serving(data, blobs)) as server:
        pull(his, parse_name(f"{server.host}/good/wan:a"), quiet)
    invariants.hold(his)


def test_blobs_that_make_no_model(his: Store, shared: Shared) -> None:
    """Everything as the manifest says, but the two experts' roles are exchanged, or a file is a pickle."""
    data, blobs = shared

    def with_file(role: str, new: bytes) -> Shared:
        manifest = json.loads(data)
        found = next(one for one in manifest["layers"] if one.get("annotations", {}).get(ROLE) == role)
        files = manifest["layers"][-1]
        digest = "sha256:" + hashlib.sha256(new).hexdigest()
        settings = blobs[files["digest"]].replace(found["digest"].encode(), digest.encode())
        found.update(digest=digest, size=len(new))
        files.update(digest="sha256:" + hashlib.sha256(settings).hexdigest(), size=len(settings))
        return json.dumps(manifest).encode(), {**blobs, digest: new, files["digest"]: settings}

    refused(his, serving(*with_file("vae", b"\x80\x04pickle")), InvalidRequest, "vae: .*pickled checkpoint")
    refused(his, serving(*with_file("vae", b"GGUF")), InvalidRequest, "vae: ")
    high = json.loads(data)["layers"][0]["digest"]
    refused(his, serving(*with_file("low_noise", blobs[high])), InvalidRequest, "as both experts")
    assert list(his.blobs.glob("sha256-*")) == []


def test_modelfiles(his: Store, shared: Shared) -> None:
    data, blobs = shared
    old = json.loads(data)["layers"][-1]["digest"]

    def with_modelfile(text: bytes) -> Answering:
        digest = "sha256:" + hashlib.sha256(text).hexdigest()
        manifest = edited(data, layer(-1, digest=digest, size=len(text)))
        return serving(manifest, {**blobs, digest: text})

    good = blobs[old]
    refused(his, with_modelfile(b"NONSENSE"), FormatError, "Modelfile is not one")
    refused(his, with_modelfile(good + b"\nREQUIRES 99.0.0\n"), InvalidRequest, "requires wanrun 99")
    refused(his, with_modelfile(good + b"\nADAPTER /etc/passwd\n"), FormatError, "other files")
    refused(
        his, with_modelfile(good.replace(b"VAE ", b"VAE /etc/passwd#")), FormatError, "other files|not one"
    )
    refused(his, with_modelfile(b"FROM other\n" + good), FormatError, "other files")


def test_adapters(his: Store, shared: Shared, tmp_path: Path) -> None:
    """A bundle with an adapter is sound only if the adapter fits the expert that both files say it is for."""
    data, blobs = shared
    sound = save(tmp_path / "a.safetensors", lora()).read_bytes()
    wide = save(tmp_path / "b.safetensors", lora(width=256)).read_bytes()

    def with_adapter(new: bytes, line: str = "ADAPTER high_noise {} 1.0", **notes: str) -> Answering:
        manifest = json.loads(data)
        digest = "sha256:" + hashlib.sha256(new).hexdigest()
        written = {ROLE: "high_noise", "dev.wanrun.scale": "1.0", "dev.wanrun.order": "0"}
        written |= {f"dev.wanrun.{key}": value for key, value in notes.items()}
        adapter = {"mediaType": ADAPTER_TYPE, "digest": digest, "size": len(new), "annotations": written}
        files = manifest["layers"][-1]
        settings = blobs[files["digest"]] + f"\n{line.format(digest)}\n".encode()
        files.update(digest="sha256:" + hashlib.sha256(settings).hexdigest(), size=len(settings))
        manifest["layers"].insert(0, adapter)
        return serving(json.dumps(manifest).encode(), {**blobs, digest: new, files["digest"]: settings})

    refused(his, with_adapter(b"\x80\x04pickle"), InvalidRequest, "adapter adapter: .*pickled checkpoint")
    refused(his, with_adapter(wide), InvalidRequest, "make 256 × 256, and .* is 128 × 128")
    refused(his, with_adapter(sound, role="diffusion"), FormatError, "an adapter for 'diffusion'")
    refused(his, with_adapter(sound, scale="0.5"), FormatError, "names other files")
    refused(his, with_adapter(sound, role="low_noise"), FormatError, "names other files")
    refused(his, with_adapter(sound, order="1"), FormatError, "says that it is number '1'")
    refused(his, with_adapter(sound, line=""), FormatError, "names other files")
    with fake(with_adapter(sound)) as server:
        pull(his, parse_name(f"{server.host}/good/wan:a"), quiet)
        assert [each.role for each in his.get(f"{server.host}/good/wan:a").adapters] == ["high_noise"]
    invariants.hold(his)


def test_busy_servers(his: Store, hers: Store, shared: Shared) -> None:
    """429 with what to wait, 500s, a lost line: asked again, and the bundle comes all the same."""
    plain, troubles = serving(*shared), iter([429, 500, 503, 0, 200, 502, 200])

    def answer(exchange: Exchange) -> None:
        trouble = next(troubles, 200) if "/blobs/" not in exchange.path or exchange.method == "HEAD" else 200
        if trouble == 0:
            exchange.handler.close_connection = True
        elif trouble != 200:
            exchange.reply(trouble, {"Retry-After": "0"})
        else:
            plain(exchange)

    with fake(answer) as server:
        pull(his, parse_name(f"{server.host}/busy/wan:a"), quiet)
    assert [entry.digest for entry in his.list()] == [hers.manifest("wan").digest]
    his.remove(his.list()[0].name)
    assert len(refused(his, always(503, {"Retry-After": "0"}), DownloadError, "503").seen) == 5


def test_what_a_server_may_ask_to_wait(monkeypatch: pytest.MonkeyPatch, his: Store) -> None:
    waits: list[float] = []
    monkeypatch.setattr("wanrun.sources.oci.client.time.sleep", waits.append)
    for asked in ("7", "999999999", "9" * 400, "-1", "Fri, 31 Dec 1999 23:59:59 GMT", "nan"):
        refused(his, always(429, {"Retry-After": asked}), DownloadError, "429")
    assert set(waits[:4]) == {7.0}
    assert max(waits) <= 60
    assert len(waits) == 24


def test_words_of_a_registry_are_made_harmless(his: Store) -> None:
    body = json.dumps({"errors": [{"code": "X", "message": "a\x1b[2Jb" + "c" * 10_000}]}).encode()
    with fake(always(418, {}, body)) as server:
        with pytest.raises(DownloadError, match=r"X: a \[2Jbccc") as caught:
            pull(his, parse_name(f"{server.host}/a/b"), quiet)
        assert len(str(caught.value)) < 400
    for odd in (b"[" * 60_000, b'{"errors": 1}', b'{"errors": [1]}', b"\xff"):
        refused(his, always(418, {}, odd), DownloadError, "418")


@pytest.mark.parametrize(
    "place",
    [
        "http://127.0.0.2:{port}/x",
        "http://localhost:{port}/x",
        "http://169.254.169.254/latest",
        "https://10.0.0.1/x",
        "https://127.1/x",
        "https://[::1]/x",
        "https://registry.localhost/x",
        "file:///etc/passwd",
        "gopher://example.org/",
        "https://user:secret@example.org/",
        "https://example.org:99999999/",
        "http://[",
        "",
    ],
)
def test_redirects_to_where_they_must_not_lead(his: Store, place: str) -> None:
    """Of a manifest, and of an upload."""

    def answer(exchange: Exchange) -> None:
        status = 307 if exchange.method == "GET" else 202
        exchange.reply(status, {"Location": place.format(port=server.port)})

    with fake(answer) as server:
        with pytest.raises(DownloadError, match="sends us to"):
            pull(his, parse_name(f"{server.host}/evil/wan:a"), quiet)
        with (
            pytest.raises(DownloadError, match="sends us to"),
            Client(Repository(server.host, "a/b"), "push") as client,
        ):
            begin(client)
    assert len(server.seen) == 2


def test_redirects_without_end(his: Store) -> None:
    server = refused(
        his, lambda one: one.reply(302, {"Location": one.path + "x"}), DownloadError, "without end"
    )
    assert len(server.seen) == 4


def test_a_token_stays_with_its_registry(
    his: Store, hers: Store, shared: Shared, docker_config: Path
) -> None:
    """Blobs that are redirected to another server: the server is asked, and sees no token."""
    data, blobs = shared

    def storage(exchange: Exchange) -> None:
        send_range(exchange, blobs[exchange.path.rpartition("/")[2]])

    def answer(exchange: Exchange) -> None:
        if exchange.headers.get("authorization") != "Basic YW5uOnMzY3JldA==":
            exchange.reply(401, {"WWW-Authenticate": 'Basic realm="x"'})
        elif "/blobs/" in exchange.path:
            exchange.reply(307, {"Location": f"http://{elsewhere.host}{exchange.path}"})
        else:
            serving(data, blobs)(exchange)

    with fake(storage) as elsewhere, fake(answer) as server:
        docker_config.write_text(json.dumps({"auths": {server.host: {"auth": "YW5uOnMzY3JldA=="}}}))
        pull(his, parse_name(f"{server.host}/ann/wan:a"), quiet)
    assert [entry.digest for entry in his.list()] == [hers.manifest("wan").digest]
    assert len(elsewhere.seen) >= len(blobs) - 1
    assert not any("authorization" in exchange.headers for exchange in elsewhere.seen)


def test_pushing_to_a_liar(hers: Store) -> None:
    """Lost count, refusals, a manifest that is kept as another."""

    def pushed(answer: Answering, problem: str) -> None:
        with fake(answer) as server:
            name = parse_name(f"{server.host}/a/wan")
            hers.copy("wan", name)
            with pytest.raises(DownloadError, match=problem):
                push(hers, name, quiet)
            assert len(server.seen) < 60

    def answers(**by_method: tuple[int, dict[str, str]]) -> Answering:
        return lambda exchange: exchange.reply(*by_method[exchange.method])

    begun = (202, {"Location": "/upload"})
    missing: tuple[int, dict[str, str]] = (404, {})
    pushed(answers(HEAD=missing, POST=begun, PUT=(400, {})), "is refused: status 400")
    pushed(answers(HEAD=missing, POST=begun, PUT=missing, GET=missing), "lost the upload")
    pushed(answers(HEAD=missing, POST=(200, {})), "upload is refused")
    pushed(
        answers(HEAD=missing, POST=(202, {"Location": "/x", "OCI-Chunk-Min-Length": "9" * 12})), "chunks of"
    )
    pushed(answers(HEAD=missing, POST=(403, {})), "docker login")
    pushed(answers(HEAD=(200, {}), PUT=(201, {"Docker-Content-Digest": OTHER})), "not as it was sent")
    pushed(answers(HEAD=(200, {}), PUT=(400, {})), "manifest of .* is refused")


@pytest.mark.parametrize("where", ["0-0", "0-999999999999", "5-9", "0--1", "0-" + "9" * 100])
def test_pushing_to_a_registry_that_cannot_count(
    hers: Store, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr("wanrun.sources.oci.uploading.CHUNK", 50_000)
    replies = {"HEAD": 404, "POST": 202, "PATCH": 202, "GET": 204, "PUT": 400}

    def answer(exchange: Exchange) -> None:
        exchange.reply(replies[exchange.method], {"Location": "/upload", "Range": where})

    with fake(answer) as server:
        name = parse_name(f"{server.host}/a/wan")
        hers.copy("wan", name)
        with pytest.raises(DownloadError, match=r"the registry says|lost the upload|is refused"):
            push(hers, name, quiet)
        assert len(server.seen) < 60
