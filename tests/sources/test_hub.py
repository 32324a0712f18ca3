"""References to files on the Hugging Face Hub, through its real client and a Hub of our own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sources.hub_server import Hub, hub, sha256
from tests.sources.servers import Fault, noise
from wanrun.errors import DownloadError, InvalidRequest, ModelNotFound
from wanrun.plugins import load
from wanrun.sources.download import download
from wanrun.sources.hub import File, Listing, Place, fetch, files, parse, quants, remote, select
from wanrun.store.digest import Digest

ROOT = Path(__file__).parents[2]
REPO = "QuantStack/Wan2.2-T2V-A14B-GGUF"
FILES = {
    "README.md": b"# a model",
    "HighNoise/Wan2.2-T2V-A14B-HighNoise-Q4_K_M.gguf": noise(5_000, 1),
    "LowNoise/Wan2.2-T2V-A14B-LowNoise-Q4_K_M.gguf": noise(5_000, 2),
    "LowNoise/Wan2.2-T2V-A14B-LowNoise-Q4_K_S.gguf": noise(5_000, 3),
    "VAE/Wan2.1 VAE.safetensors": noise(5_000, 4),
}
HIGH = "HighNoise/Wan2.2-T2V-A14B-HighNoise-Q4_K_M.gguf"


def quiet(phase: str, done: int, total: int) -> None:
    """Shows nothing."""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with hub() as found:
        found.add(REPO, dict(FILES))
        monkeypatch.setenv("HF_ENDPOINT", found.site.url)
        monkeypatch.setenv("HF_TOKEN", "hf_right")
        yield found


def test_a_listing_is_pinned_and_whole(site: Hub) -> None:
    listing = files(REPO)
    assert listing.commit == site.repositories[REPO].names["main"]
    assert {file.path: file.size for file in listing.files} == {p: len(data) for p, data in FILES.items()}
    known = {file.path: file.digest for file in listing.files}
    assert known[HIGH] == Digest.of(FILES[HIGH])
    assert known["README.md"] is None
    assert quants(listing) == ("Q4_K_M", "Q4_K_S")


@pytest.mark.parametrize(
    "reference",
    [f"hf.co/{REPO}/{HIGH}", f"HuggingFace.co/{REPO}/{HIGH}@main", f"hf.co/{REPO}:{HIGH[10:].lower()}"],
)
def test_a_file(site: Hub, tmp_path: Path, reference: str) -> None:
    path = fetch(reference, tmp_path, quiet)
    assert path == tmp_path / f"sha256-{sha256(FILES[HIGH])}"
    assert path.read_bytes() == FILES[HIGH]
    resolved = [(path, headers) for path, headers in site.site.requests if "/resolve/" in path]
    assert [headers["authorization"] for _, headers in resolved] == ["Bearer hf_right"]
    assert f"/resolve/{site.repositories[REPO].names['main']}/" in resolved[0][0]
    assert [headers.get("authorization") for _, headers in site.storage.requests] == [None]


def test_small_and_oddly_named_files(site: Hub, tmp_path: Path) -> None:
    assert fetch(f"hf.co/{REPO}/README.md", tmp_path, quiet).read_bytes() == b"# a model"
    odd = "VAE/Wan2.1 VAE.safetensors"
    assert fetch(f"hf.co/{REPO}/{odd}", tmp_path, quiet).read_bytes() == FILES[odd]


def test_a_cut_download_goes_on(site: Hub, tmp_path: Path) -> None:
    site.storage.next[f"/{sha256(FILES[HIGH])}"] = [Fault(cut=3_000), Fault(status=503)]
    assert fetch(f"hf.co/{REPO}/{HIGH}", tmp_path, quiet).read_bytes() == FILES[HIGH]
    assert site.storage.sent.total() == 5_000
    assert site.storage.requests[-1][1]["range"] == "bytes=3000-4999"


def test_an_old_revision(site: Hub, tmp_path: Path) -> None:
    old = site.repositories[REPO].names["main"]
    site.add(REPO, {HIGH: noise(5_000, 9)})
    site.repositories[REPO].names["v1"] = old
    for revision in (old, "v1"):
        assert fetch(f"hf.co/{REPO}/{HIGH}@{revision}", tmp_path, quiet).read_bytes() == FILES[HIGH]
    assert fetch(f"hf.co/{REPO}/{HIGH}", tmp_path, quiet).read_bytes() == noise(5_000, 9)
    site.repositories[REPO].names["refs/pr/1"] = old
    assert files(REPO, "refs/pr/1").commit == old


def test_quants(site: Hub, tmp_path: Path) -> None:
    small = FILES["LowNoise/Wan2.2-T2V-A14B-LowNoise-Q4_K_S.gguf"]
    assert fetch(f"hf.co/{REPO}:q4_k_s", tmp_path, quiet).read_bytes() == small
    with pytest.raises(ModelNotFound, match=f"several files are 'Q4_K_M'; name one of: {HIGH}, LowNoise/"):
        fetch(f"hf.co/{REPO}:Q4_K_M", tmp_path, quiet)
    with pytest.raises(ModelNotFound, match=f"there is no 'Q9'; name one of: {HIGH}"):
        fetch(f"hf.co/{REPO}:Q9", tmp_path, quiet)
    with pytest.raises(ModelNotFound, match="several files are 'one model file'"):
        fetch(f"hf.co/{REPO}", tmp_path, quiet)
    with pytest.raises(ModelNotFound, match=r"there is no 'no\.gguf'"):
        fetch(f"hf.co/{REPO}/no.gguf", tmp_path, quiet)
    site.add("user/one", {"a.gguf": noise(200), "b.txt": b"x"})
    assert fetch("hf.co/user/one", tmp_path, quiet).read_bytes() == noise(200)


def test_private_and_gated(site: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.add("user/private", {"a.gguf": noise(200)}, private=True)
    site.add("user/gated", {"a.gguf": noise(300)}, gated=True)
    assert fetch("hf.co/user/private", tmp_path, quiet).read_bytes() == noise(200)
    assert fetch("hf.co/user/gated", tmp_path, quiet).read_bytes() == noise(300)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(ModelNotFound, match=r"no such repository, or it is private.* HF_TOKEN") as private:
        fetch("hf.co/user/private", tmp_path, quiet)
    site.add("user/gated", {"a.gguf": noise(400)})
    with pytest.raises(
        DownloadError, match=r"accept its terms at http.*/user/gated, then set HF_TOKEN"
    ) as gated:
        fetch("hf.co/user/gated", tmp_path, quiet)
    assert "hf_wrong" not in f"{private.value}{gated.value}"
    assert len(list(tmp_path.glob("sha256-*"))) == 2


def test_what_is_not_there(site: Hub, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"hf[.]co/user/none: no such repository"):
        fetch("hf.co/user/none", tmp_path, quiet)
    with pytest.raises(ModelNotFound, match="no revision 'v9'"):
        fetch(f"hf.co/{REPO}/{HIGH}@v9", tmp_path, quiet)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"id": 1}',
        b'{"id": "a/b", "sha": "../x", "siblings": []}',
        b'{"id": "a/b", "sha": "%b", "siblings": [{"rfilename": 3}]}' % (b"0" * 40),
        b'{"id": "a/b", "sha": "%b", "siblings": [{"rfilename": "a", "size": -1}]}' % (b"0" * 40),
        b'{"id": "a/b", "sha": "%b", "siblings": [{"rfilename": "a", "size": 1, "lfs": '
        b'{"size": 1, "sha256": "../../etc/passwd", "pointerSize": 1}}]}' % (b"0" * 40),
        b"[" * 100_000,
    ],
)
def test_a_listing_that_makes_no_sense(site: Hub, body: bytes) -> None:
    site.site.route = lambda handler: handler.reply(200, {}, body)
    with pytest.raises(DownloadError, match=r"cannot list hf[.]co/a/b|names no commit for a/b"):
        files("a/b")


def test_a_hub_that_is_down(site: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    site.site.route = lambda handler: handler.reply(500)
    with pytest.raises(DownloadError, match="answered 500; try again later"):
        files(REPO)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match=r"cannot list .*: ConnectError from http://127\.0\.0\.1:9"):
        files(REPO)


def test_offline(site: Hub) -> None:
    code = (
        "from wanrun.errors import DownloadError\nfrom wanrun.sources.hub import files\n"
        "try:\n    files('a/b')\nexcept DownloadError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": site.site.url},
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert b"HF_HUB_OFFLINE is set" in done.stdout
    assert site.site.requests == []


@pytest.mark.parametrize(
    ("reference", "place"),
    [
        ("hf.co/u/r", Place("u/r")),
        ("hf.co/u/r:Q8_0", Place("u/r", quant="Q8_0")),
        ("hf.co/u/r@v1.0", Place("u/r", revision="v1.0")),
        ("hf.co/u/r:Q8_0@refs/pr/3", Place("u/r", "", "Q8_0", "refs/pr/3")),
        ("HF.CO/u/r/a/b c.gguf@main", Place("u/r", "a/b c.gguf", "", "main")),
    ],
)
def test_references(reference: str, place: Place) -> None:
    assert parse(reference) == place


@pytest.mark.parametrize(
    "reference",
    [
        "hf.co/",
        "hf.co/u",
        "hf.co/u/",
        "hf.co/../r",
        "hf.co/u/r..",
        "hf.co/u/r:",
        "hf.co/u/r@",
        "hf.co/u/r/",
        "hf.co/u/r/../../x",
        "hf.co/u/r//x",
        "hf.co/u/r/a\nb",
        "hf.co/u/r@-x",
        "hf.co/u%2f/r",
        "hf.co/ü/r",
        "example.org/u/r",
    ],
)
def test_what_is_no_reference(reference: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"is no file on the Hub: write hf\.co/user/repo"):
        fetch(reference, tmp_path, quiet)


def test_names_of_quants() -> None:
    names = [
        "a-Q4_K_M.gguf",
        "b.IQ3_XXS.gguf",
        "c_fp8_e4m3fn_scaled.safetensors",
        "d-bf16.gguf",
        "Q4_0/e.gguf",
    ]
    listing = Listing("u/r", "0" * 40, tuple(File(name, 1, None) for name in [*names, "Q5_0.txt"]))
    assert quants(listing) == ("BF16", "IQ3_XXS", "Q4_0", "Q4_K_M")
    assert [file.path for file in select(listing, "q4_k")] == []
    assert [file.path for file in select(listing, "bf16")] == ["d-bf16.gguf"]


def test_our_hub_is_one_for_its_own_client(site: Hub, tmp_path: Path) -> None:
    from huggingface_hub import HfApi, hf_hub_download

    api = HfApi(endpoint=site.site.url, token="hf_right")
    tree = {entry.path for entry in api.list_repo_tree(REPO, recursive=True)}
    assert tree == set(FILES)
    got = hf_hub_download(REPO, HIGH, endpoint=site.site.url, cache_dir=tmp_path / "cache", token="hf_right")
    assert Path(got).read_bytes() == FILES[HIGH]
    listing = files(REPO)
    for file in listing.files:
        digest, _ = download(remote(listing, file), tmp_path / "blobs", quiet)
        assert digest == Digest.of(FILES[file.path])


def test_it_is_a_plugin() -> None:
    assert load("sources", "hub") is fetch
