"""References to files on web servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sources.servers import noise, serving
from wanrun.errors import DownloadError, InvalidRequest
from wanrun.plugins import load
from wanrun.sources.http import fetch, parse
from wanrun.store.digest import Digest

DATA = noise(2_000)
DIGEST = Digest.of(DATA)


def quiet(phase: str, done: int, total: int) -> None:
    """Shows nothing."""


@pytest.mark.parametrize("fragment", ["", f"#sha256={DIGEST.hex}", f"#sha256:{DIGEST.hex.upper()}"])
def test_a_file(tmp_path: Path, fragment: str) -> None:
    phases: set[str] = set()
    with serving({"/a/the%20model.gguf": DATA}) as site:
        reference = f"{site.url}/a/the%20model.gguf?query=hf_secret{fragment}"
        path = fetch(reference, tmp_path, lambda phase, done, total: phases.add(phase))
    assert path == tmp_path / DIGEST.file_name
    assert path.read_bytes() == DATA
    assert "pulling the model.gguf" in phases
    assert phases <= {"pulling the model.gguf", "checking the model.gguf"}


def test_the_wrong_file(tmp_path: Path) -> None:
    with (
        serving({"/a": DATA}) as site,
        pytest.raises(DownloadError, match=r"a is damaged: its digest is sha256"),
    ):
        fetch(f"{site.url}/a#sha256={'0' * 64}", tmp_path, quiet)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("https://a/b#sha256=123", "must be sha256= and 64 hex digits, not 'sha256=123'"),
        ("https://a/b#md5=" + "0" * 32, "must be sha256="),
        ("http://example.org/b", "use https:// or give its #sha256="),
        ("ftp://a/b", "only https:// can be downloaded, not ftp:"),
        ("file:///etc/passwd#sha256=" + "0" * 64, "not file:"),
        ("https://[/b", "not a URL"),
        ("https://", "not https:"),
    ],
)
def test_what_is_no_reference(reference: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=message):
        fetch(reference, tmp_path, quiet)
    assert list(tmp_path.iterdir()) == []


def test_what_is_said_of_a_url_tells_no_secret() -> None:
    remote = parse("https://user:hf_secret@example.org/a.gguf?token=hf_secret")
    assert "hf_secret" not in repr(remote) + remote.label
    assert remote.label == "a.gguf"


def test_it_is_a_plugin() -> None:
    assert load("sources", "http") is fetch
