"""pull, push, export, import, verify and prune on the command line."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import done, refused, wanrun
from tests.modelfile.files import MODELFILE
from tests.sources.hub_server import Hub
from tests.sources.oci.servers import registry
from tests.store.shelf import library_hub
from wanrun.cli.progress import shown


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Hub]:
    with library_hub(tmp_path / "made") as served:
        yield served


@pytest.fixture
def wan(home: Path, parts: Path) -> str:
    done("create", "wan", "-f", parts / "Modelfile")
    return "wan"


def test_pull(home: Path, site: Hub, tmp_path: Path) -> None:
    text = done("pull", "wan2.1-t2v-1.3b", "--plan")
    assert re.search(r"^diffusion +Wan2\.1-T2V-1\.3B-Q8_0\.gguf +3 MB +no$", text, re.MULTILINE)
    assert re.search(r"^text encoder +umt5-xxl-encoder-Q5_K_M\.gguf +\d+ KB +no$", text, re.MULTILINE)
    assert re.search(r"^to download +(\S+ MB) of \1$", text, re.MULTILINE)
    assert re.search(r"^free disk +\S+ [GT]B$", text, re.MULTILINE)
    assert re.search(r"^memory +\S+ GB; the largest file, 3 MB, fits$", text, re.MULTILINE)
    assert not home.exists()
    hint = "'wanrun pull wan2.1-t2v-1.3b:latest' fetches it"
    assert hint in refused("run", "wan2.1-t2v-1.3b", "a red ball")
    (tmp_path / "Remote").write_text(done("show", "wan2.1-t2v-1.3b", "--modelfile"), encoding="utf-8")
    result = wanrun("pull", "wan2.1-t2v-1.3b")
    assert re.fullmatch(r"pulled 'wan2\.1-t2v-1\.3b:latest' \([0-9a-f]{12}\)\n", result.stdout)
    assert re.search(r"^pulling Wan2\.1-T2V-1\.3B-Q8_0\.gguf: 3 MB/3 MB", result.stderr, re.MULTILINE)
    assert re.search(r" yes$", done("pull", "wan2.1-t2v-1.3b", "--plan"), re.MULTILINE)
    assert "to download    0 B of " in done("pull", "wan2.1-t2v-1.3b", "--plan")
    listed = done("list").splitlines()[1].split()
    (tmp_path / "Again").write_text(done("show", "wan2.1-t2v-1.3b", "--modelfile"), encoding="utf-8")
    done("create", "again", "-f", tmp_path / "Again")
    done("create", "remote", "-f", tmp_path / "Remote")
    assert {line.split()[1] for line in done("list").splitlines()[1:]} == {listed[1]}


def test_pull_refuses(home: Path, site: Hub) -> None:
    assert "has the tags latest, q2_k" in refused("pull", "wan2.2-t2v-a14b:q1")
    assert "did you mean 'wan2.2-t2v-a14b'?" in refused("pull", "wan2.2-t2v-a14")
    assert "did you mean 'wan2.2-t2v-a14b'?" in refused("run", "wan2.2-t2v-a14", "a red ball")
    shown_text = done("show", "wan2.2-t2v-a14b:lightning")
    assert re.search(r"low noise +low_noise_model\.safetensors +scale 1 +not here", shown_text)
    assert "invalid model name" in refused("pull", "../x")
    assert wanrun("pull").exit_code == 2
    assert done("list").count("\n") == 1


def test_a_registry(wan: str, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian's registry: what one pushes, another plans, pulls, and pulls again for nothing."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    with registry(tmp_path / "registry") as running:
        name = f"{running.host}/me/wan:q8"
        assert "not found" in refused("pull", name)
        done("cp", wan, name)
        assert done("push", name).startswith(f"pushed '{name}' (")
        listed = done("list").splitlines()[1].split()
        monkeypatch.setenv("WANRUN_HOME", str(tmp_path / "his"))
        assert re.search(r"^to download +(\S+ MB) of \1$", done("pull", name, "--plan"), re.MULTILINE)
        assert done("pull", name).startswith(f"pulled '{name}' (")
        assert done("list").splitlines()[1].split()[1] == listed[1]
        assert "to download    0 B of " in done("pull", name, "--plan")
        done("pull", name)
        assert not list((tmp_path / "his" / "leases").rglob("q8"))
    assert "all sound" in done("verify")


def test_push_needs_a_registry(wan: str) -> None:
    assert "'wanrun cp wan:latest ghcr.io/YOU/wan:latest'" in refused("push", wan)


def test_export_and_import(wan: str, tmp_path: Path) -> None:
    listed = done("list")
    file = tmp_path / "wan.tar"
    assert done("export", wan, file) == f"exported 'wan:latest' to {file}\n"
    done("rm", wan)
    assert done("import", file) == "imported 'wan:latest'\n"
    assert done("list").splitlines()[1].split()[:2] == listed.splitlines()[1].split()[:2]
    assert done("import", file, "me/other") == "imported 'me/other:latest'\n"
    assert "not found" in refused("export", "none", tmp_path / "none.tar")
    assert not (tmp_path / "none.tar").exists()
    (tmp_path / "bad.tar").write_bytes(b"x" * 5000)
    assert refused("import", tmp_path / "bad.tar")


def test_verify(wan: str, home: Path, parts: Path) -> None:
    assert re.fullmatch(r"1 model, 7 files, \S+ MB: all sound\n", done("verify"))
    assert re.fullmatch(r"1 model, 7 files, \S+ MB: all sound\n", done("verify", "WAN"))
    assert "not found" in refused("verify", "none")
    vae = next(path for path in (home / "blobs").iterdir() if b"decoder.head.2" in path.read_bytes())
    vae.chmod(0o644)
    vae.write_bytes(vae.read_bytes()[:-1] + b"x")
    for _ in range(2):
        result = wanrun("verify")
        assert result.exit_code == 1
        assert "wan:latest: vae.safetensors (sha256:" in result.stdout
        assert "to repair it: wanrun create wan:latest -f MODELFILE" in result.stdout
        assert re.search(r"Error: 1 damaged file among 1 model, 7 files, \S+ MB\n", result.stderr)
    assert "is damaged" in refused("run", "wan", "a red ball")
    done("create", "wan", "-f", parts / "Modelfile")
    assert "all sound" in done("verify")


def test_verify_nothing(home: Path) -> None:
    assert done("verify") == "0 models, 0 files, 0 B: all sound\n"


def test_prune(wan: str, home: Path) -> None:
    assert done("prune") == "freed 0 B\n"
    (home / "blobs" / ("sha256-" + "0" * 64)).write_bytes(b"x" * 5000)
    (home / "blobs" / ".part-0123").write_bytes(b"x" * 5000)
    (home / "blobs" / (".pull-" + "0" * 64)).write_bytes(b"x" * 5000)
    assert done("prune") == "freed 10 KB\n"
    assert done("prune", "--all") == "freed 5 KB\n"
    assert "all sound" in done("verify")


def test_titles_cannot_steer_the_terminal(home: Path, parts: Path) -> None:
    text = MODELFILE.replace("VAE vae.safetensors", 'VAE "vae\u009b2J.safetensors"')
    (parts / "bad").write_text(text, encoding="utf-8")
    assert "\u009b" not in wanrun("create", "wan", "-f", parts / "bad").output


def test_bytes_are_shown_as_bytes() -> None:
    """A download that goes on does not count what was there before as speed."""
    stream = io.StringIO()
    with shown(stream=stream) as progress:
        progress("pulling a\x1b.gguf", 5_000_000_000, 9_700_000_000)
        progress("pulling a\x1b.gguf", 9_700_000_000, 9_700_000_000)
        progress("denoise", 2, 2)
    first, second, third = stream.getvalue().splitlines()
    assert first == r"pulling a\x1b.gguf: 5 GB/9.7 GB"
    assert re.fullmatch(r"pulling a\\x1b\.gguf: 9\.7 GB/9\.7 GB, \S+ [KMGTP]?B/s", second)
    assert third.startswith("denoising: 2/2")


def test_bars_show_bytes() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with shown(stream=stream) as progress:
        progress("pulling [red]a.gguf", 1_000_000_000, 9_700_000_000)
        progress("pulling [red]a.gguf", 2_000_000_000, 9_700_000_000)
    assert "pulling [red]a.gguf" in stream.getvalue()
    assert "2 GB/9.7 GB" in stream.getvalue()
