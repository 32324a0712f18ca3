"""Local files, and references to other machines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wanrun.errors import InvalidRequest, ModelNotFound
from wanrun.plugins import load
from wanrun.sources.local import fetch
from wanrun.sources.reference import locate


def ignore(phase: str, done: int, total: int) -> None:
    raise AssertionError("nothing is copied")


def test_a_file_is_used_where_it_lies(tmp_path: Path) -> None:
    path = tmp_path / "a b.gguf"
    path.write_bytes(b"x")
    assert fetch(str(path), tmp_path / "into", ignore) == path
    assert list(tmp_path.iterdir()) == [path]
    assert load("sources", "local") is fetch


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="no such file"):
        fetch(str(tmp_path / "none.gguf"), tmp_path, ignore)
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(InvalidRequest, match="is not a file"):
            fetch(str(path), tmp_path, ignore)


@pytest.mark.parametrize(
    "reference",
    [
        "hf.co/user/repo/a.gguf",
        "HuggingFace.co/user/repo/a.gguf@main",
        "https://example.org/a.gguf",
        "file:///a.gguf",
    ],
)
def test_other_machines(reference: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"only local files .* download the file and give its path"):
        fetch(reference, tmp_path, ignore)


def test_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="neither a file nor a model"):
        fetch("ghcr.io/user/wan:latest", tmp_path, ignore)


@pytest.mark.parametrize(
    ("reference", "kind"),
    [
        ("./a", "path"),
        ("/a", "path"),
        ("../a", "path"),
        ("~/a", "path"),
        ("a.GGUF", "path"),
        ("folder/a.safetensors", "path"),
        (r"C:\models\a", "path"),
        (r"models\a", "path"),
        ("a.pth", "path"),
        ("wan2.2-t2v-a14b", "name"),
        ("wan2.2:q4_k_m", "name"),
        ("ghcr.io/user/wan:latest", "name"),
        ("hf.co/user/repo", "hub"),
        ("s3://bucket/a", "url"),
        ("x" * 5000, "name"),
    ],
)
def test_kinds(reference: str, kind: str, tmp_path: Path) -> None:
    assert locate(reference, tmp_path)[0] == kind


def test_a_file_wins_over_a_name(tmp_path: Path) -> None:
    (tmp_path / "wan2.2").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    assert locate("wan2.2", tmp_path) == ("path", str(tmp_path / "wan2.2"))
    assert locate("folder", tmp_path) == ("name", "folder")
