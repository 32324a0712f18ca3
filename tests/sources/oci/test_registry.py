"""Against the real docker-registry, with skopeo and oras as other clients."""

from __future__ import annotations

import base64
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.modelfile.files import MODELFILE, save_adapters, save_parts
from tests.sources.oci import servers
from tests.store import invariants
from wanrun.errors import DownloadError, FormatError, InvalidRequest, ModelNotFound
from wanrun.modelfile import grammar
from wanrun.sources.oci import fetch, pull, push, sessions, uploading
from wanrun.store.archive import export_archive, import_archive
from wanrun.store.creation import create, quiet
from wanrun.store.digest import Digest
from wanrun.store.names import Name, parse_name
from wanrun.store.store import Store


def shared(store: Store, host: str, path: str) -> Name:
    """The bundle ``wan`` under a name of a registry."""
    name = parse_name(f"{host}/{path}")
    store.copy("wan", name)
    return name


def digest(store: Store, name: str | Name) -> Digest:
    return store.manifest(name).digest


def test_push_and_pull(hers: Store, his: Store, registry: servers.Registry) -> None:
    name = shared(hers, registry.host, "ann/wan:q4")
    phases: dict[str, tuple[int, int]] = {}

    def note(phase: str, done: int, total: int) -> None:
        phases[phase] = (done, total)

    push(hers, name, note)
    assert all(done == total for done, total in phases.values())
    assert {"pushing umt5.gguf", "pushing Modelfile", "pushing manifest"} <= phases.keys()
    phases.clear()
    pull(his, name, note)
    pulled = {phase: counts for phase, counts in phases.items() if phase.startswith("pulling")}
    assert len(pulled) == 1 + len(hers.manifest("wan").blobs)
    assert all(done == total for done, total in pulled.values())
    assert digest(his, name) == digest(hers, "wan")
    invariants.hold(his)
    assert invariants.leftovers(his) == []
    mine, yours = hers.get("wan"), his.get(name)
    assert [part.origin for part in yours.components.values()] == [
        part.origin for part in mine.components.values()
    ]
    assert (yours.parameters, yours.licenses) == (mine.parameters, mine.licenses)
    assert not list((hers.home / "uploads").glob("*"))


def test_what_is_there_is_not_sent_again(hers: Store, his: Store, registry: servers.Registry) -> None:
    name = shared(hers, registry.host, "bob/wan:a")
    push(hers, name, quiet)
    before = len(registry.requests())
    push(hers, name, quiet)
    again = registry.requests()[before:]
    assert {line.split()[0] for line in again} == {"HEAD", "PUT"}
    assert [line for line in again if line.startswith("PUT")] == ["PUT /v2/bob/wan/manifests/a 201"]
    pull(his, name, quiet)
    before = len(registry.requests())
    pull(his, name, quiet)
    assert registry.requests()[before:] == ["GET /v2/bob/wan/manifests/a 200"]


def test_blobs_are_mounted_from_another_repository(hers: Store, registry: servers.Registry) -> None:
    shared(hers, registry.host, "aaa/never-pushed:x")
    push(hers, shared(hers, registry.host, "eve/wan:a"), quiet)
    before = len(registry.requests())
    push(hers, shared(hers, registry.host, "eve/other:a"), quiet)
    after = registry.requests()[before:]
    mounts = [line for line in after if line.startswith("POST")]
    assert len(mounts) == len(hers.manifest("wan").blobs)
    assert all("mount=sha256" in line and "from=" in line and line.endswith(" 201") for line in mounts)
    assert not any(line.startswith(("PATCH", "PUT /v2/eve/other/blobs")) for line in after)


def test_chunks(hers: Store, his: Store, registry: servers.Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploading, "CHUNK", 50_000)
    name = shared(hers, registry.host, "chunks/wan:a")
    before = len(registry.requests())
    push(hers, name, quiet)
    assert sum(line.startswith("PATCH") for line in registry.requests()[before:]) > 10
    pull(his, name, quiet)
    assert digest(his, name) == digest(hers, "wan")


@pytest.mark.parametrize("seed", range(3))
def test_cut_uploads(
    hers: Store, his: Store, registry: servers.Registry, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """At random bytes; every cut makes one of the five tries that each step has."""
    monkeypatch.setattr(uploading, "CHUNK", 50_000)
    chance = random.Random(seed)
    allowances = [chance.choice((0, 300, chance.randrange(200_000))) for _ in range(4)]
    with servers.cut_line(registry.port, allowances) as port:
        name = shared(hers, f"127.0.0.1:{port}", f"cut{seed}/wan:a")
        push(hers, name, quiet)
    name = parse_name(f"{registry.host}/cut{seed}/wan:a")
    pull(his, name, quiet)
    assert digest(his, name) == digest(hers, "wan")


def test_another_process_carries_an_upload_on(
    hers: Store, his: Store, registry: servers.Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C after the third chunk: the next push asks how far it came and sends the rest alone."""
    monkeypatch.setattr(uploading, "CHUNK", 50_000)
    name, saved = shared(hers, registry.host, "resumed/wan:a"), []
    save = sessions.save

    def save_and_stop(record: Path, url: object) -> None:
        save(record, url)  # type: ignore[arg-type]
        saved.append(url)
        if len(saved) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(sessions, "save", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        push(hers, name, quiet)
    (record,) = (hers.home / "uploads").iterdir()
    assert record.stat().st_mode & 0o777 == 0o600
    monkeypatch.setattr(sessions, "save", save)
    steps: list[tuple[str, int]] = []
    before = len(registry.requests())
    push(hers, name, lambda phase, done, total: steps.append((phase, done)))
    resumed = next(done for phase, done in steps if phase == "pushing wan-high_noise.safetensors")
    assert resumed == 200_000
    assert any(line.startswith("GET") and line.endswith(" 204") for line in registry.requests()[before:])
    pull(his, name, quiet)
    assert digest(his, name) == digest(hers, "wan")


def test_what_is_not_there(his: Store, hers: Store, registry: servers.Registry) -> None:
    with pytest.raises(ModelNotFound, match=r"'127\.0\.0\.1:\d+/no/body:here' not found in the registry"):
        pull(his, parse_name(f"{registry.host}/no/body:here"), quiet)
    with pytest.raises(ModelNotFound):
        push(hers, parse_name(f"{registry.host}/no/body:here"), quiet)
    with pytest.raises(InvalidRequest, match=r"wan:latest has no registry.*'wanrun cp'"):
        push(hers, parse_name("wan"), quiet)
    with pytest.raises(InvalidRequest, match="no repository's name"):
        push(hers, shared(hers, registry.host, "_x/a..b"), quiet)
    with pytest.raises(DownloadError, match="does not answer"):
        pull(his, parse_name(f"127.0.0.1:{servers.free_port()}/a/b"), quiet)


def test_passwords(hers: Store, his: Store, memory: Path, docker_config: Path) -> None:
    with servers.registry(memory / "closed", auth=True) as closed:
        name = shared(hers, closed.host, "ann/wan")
        for secret in (None, "wrong"):
            if secret is not None:
                docker_config.write_text(json.dumps({"auths": {closed.host: login(secret)}}))
            for action, store in ((push, hers), (pull, his)):
                with pytest.raises(DownloadError, match=f"docker login {closed.host}") as caught:
                    action(store, name, quiet)
                assert "wrong" not in str(caught.value)
        docker_config.write_text(json.dumps({"auths": {f"https://{closed.host}/v2/": login("s3cret")}}))
        push(hers, name, quiet)
        pull(his, name, quiet)
        assert digest(his, name) == digest(hers, "wan")


def login(secret: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"ann:{secret}".encode()).decode()}


def skopeo(*arguments: str) -> None:
    done = subprocess.run(
        [servers.program("skopeo"), "copy", "--src-tls-verify=false", "--dest-tls-verify=false", *arguments],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_skopeo(hers: Store, his: Store, registry: servers.Registry, tmp_path: Path) -> None:
    """To a folder and back, to an archive that we read, and from an archive that we wrote."""
    name = shared(hers, registry.host, "sko/wan:a")
    push(hers, name, quiet)
    skopeo(f"docker://{registry.host}/sko/wan:a", f"oci:{tmp_path}/layout:a")
    skopeo(f"oci:{tmp_path}/layout:a", f"docker://{registry.host}/sko/back:a")
    skopeo(f"oci:{tmp_path}/layout:a", f"oci-archive:{tmp_path}/theirs.tar:a")
    export_archive(hers, name, tmp_path / "ours.tar", quiet)
    skopeo(f"oci-archive:{tmp_path}/ours.tar", f"docker://{registry.host}/sko/ours:a")
    for path in ("back", "ours"):
        pull(his, parse_name(f"{registry.host}/sko/{path}:a"), quiet)
        assert digest(his, f"{registry.host}/sko/{path}:a") == digest(hers, "wan")
    assert import_archive(his, tmp_path / "theirs.tar", parse_name("theirs"), quiet) == [parse_name("theirs")]
    assert his.get("theirs").components.keys() == hers.get("wan").components.keys()
    invariants.hold(his)


def oras(host: str, path: str, *files: Path) -> None:
    """In a process of its own, in the folder of the files: it takes paths below its own folder only."""
    code = (
        "import sys, oras.client\n"
        "client = oras.client.OrasClient(hostname=sys.argv[1], insecure=True)\n"
        "client.push(target=sys.argv[1] + '/' + sys.argv[2], files=sys.argv[3:])\n"
    )
    names = [file.name for file in files]
    subprocess.run(
        [sys.executable, "-c", code, host, path, *names], check=True, capture_output=True, cwd=files[0].parent
    )


def test_a_file_pushed_with_oras(registry: servers.Registry, parts: Path, tmp_path: Path) -> None:
    oras(registry.host, "files/vae:v1", parts / "vae.safetensors")
    into = tmp_path / "blobs"
    into.mkdir()
    data = (parts / "vae.safetensors").read_bytes()
    phases = []
    for reference in (f"oci://{registry.host}/files/vae:v1", f"{registry.host}/files/vae:v1"):
        path = fetch(reference, into, lambda phase, done, total: phases.append(phase))
        assert path.read_bytes() == data
        assert path.name == Digest.of(data).file_name
    assert set(phases) >= {"pulling vae.safetensors"}
    assert list(into.glob("sha256-*")) == [path]
    with pytest.raises(ModelNotFound, match=r"files/vae@sha256:0+' not found in the registry"):
        fetch(f"oci://{registry.host}/files/vae@sha256:{'0' * 64}", into, quiet)
    oras(registry.host, "files/two:v1", parts / "vae.safetensors", parts / "tae.safetensors")
    with pytest.raises(FormatError, match="holds 2 files"):
        fetch(f"oci://{registry.host}/files/two:v1", into, quiet)


def test_a_bundle_is_no_component(hers: Store, registry: servers.Registry, tmp_path: Path) -> None:
    name = shared(hers, registry.host, "ann/bundle:a")
    push(hers, name, quiet)
    with pytest.raises(FormatError, match="is a bundle of several files"):
        fetch(f"oci://{name}", tmp_path, quiet)
    assert list(tmp_path.glob("sha256-*")) == []


def test_adapters_travel(stores: tuple[Store, Store], registry: servers.Registry, tmp_path: Path) -> None:
    """With their experts, scales and order; what is admitted is checked as if it were made here."""
    hers, his = stores
    folder = save_parts(tmp_path / "parts")
    create(hers, "wan", grammar.parse(MODELFILE + save_adapters(folder)), folder)
    name = shared(hers, registry.host, "ann/lightning:four")
    push(hers, name, quiet)
    pull(his, name, quiet)
    assert digest(his, name) == digest(hers, "wan")
    assert [(each.role, each.scale, each.component.digest) for each in his.get(name).adapters] == [
        (each.role, each.scale, each.component.digest) for each in hers.get("wan").adapters
    ]
    invariants.hold(his)
    assert invariants.leftovers(his) == []
