"""Docker's configuration: who the user is, and that nobody is shown it."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from wanrun.errors import InvalidRequest
from wanrun.sources.oci.credentials import Credentials, find_credentials

ANN = base64.b64encode(b"ann:pass:word").decode()


def configure(path: Path, **config: object) -> None:
    path.write_text(json.dumps(config))


def test_nothing(docker_config: Path) -> None:
    assert find_credentials("ghcr.io") is None
    configure(docker_config, auths={"other.io": {"auth": ANN}, "ghcr.io.evil.example": {"auth": ANN}})
    assert find_credentials("ghcr.io") is None


@pytest.mark.parametrize(
    ("key", "host"),
    [
        ("ghcr.io", "ghcr.io"),
        ("https://ghcr.io", "ghcr.io"),
        ("https://ghcr.io/v2/", "ghcr.io"),
        ("http://localhost:5000", "localhost:5000"),
        ("https://index.docker.io/v1/", "docker.io"),
    ],
)
def test_hosts(docker_config: Path, key: str, host: str) -> None:
    configure(docker_config, auths={key: {"auth": ANN}})
    assert find_credentials(host) == Credentials("ann", "pass:word")
    assert find_credentials(host + "0") is None


def test_kinds(docker_config: Path) -> None:
    entries = {
        "a.io": {"username": "ann", "password": "p"},
        "b.io": {"identitytoken": "t", "auth": base64.b64encode(b"ann:").decode()},
        "c.io": {},
        "d.io": {"auth": ""},
        "e.io": 7,
    }
    configure(docker_config, auths=entries)
    assert find_credentials("a.io") == Credentials("ann", "p")
    assert find_credentials("b.io") == Credentials("ann", "", "t")
    assert [find_credentials(f"{letter}.io") for letter in "cde"] == [None] * 3


@pytest.mark.parametrize(
    "text", ['{"auths": {"a.io": {"auth": "s3cret!"}}}', '{"s3cret', "[" * 50_000, "\xff"]
)
def test_damage_is_told_without_the_secret(docker_config: Path, text: str) -> None:
    docker_config.write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidRequest, match=r"config\.json") as caught:
        find_credentials("a.io")
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_other_shapes_are_no_login(docker_config: Path) -> None:
    for text in ("[]", "null", '{"auths": []}', '{"auths": null, "credHelpers": 3}'):
        docker_config.write_text(text)
        assert find_credentials("a.io") is None


def helper(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """``docker-credential-tests`` on the path."""
    folder.mkdir(exist_ok=True)
    program = folder / "docker-credential-tests"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_helpers(docker_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(
        tmp_path / "bin",
        monkeypatch,
        'read host; case "$1 $host" in\n'
        """"get a.io") echo '{"ServerURL": "a.io", "Username": "ann", "Secret": "s"}';;\n"""
        """"get https://index.docker.io/v1/") echo '{"Username": "<token>", "Secret": "t"}';;\n"""
        '*) echo "credentials not found in native keychain"; exit 1;; esac',
    )
    for config in ({"credsStore": "tests"}, {"credHelpers": {"a.io": "tests", "docker.io": "tests"}}):
        configure(docker_config, auths={"a.io": {"auth": ANN}, "b.io": {"auth": ANN}}, **config)
        assert find_credentials("a.io") == Credentials("ann", "s")
        assert find_credentials("docker.io") == Credentials("", "", "t")
        assert find_credentials("b.io") == Credentials("ann", "pass:word")


@pytest.mark.parametrize("script", ["echo s3cret >&2; exit 3", "echo s3cret", "echo [[[", "kill -9 $$"])
def test_helpers_that_fail(
    docker_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    helper(tmp_path / "bin", monkeypatch, script)
    configure(docker_config, credsStore="tests")
    with pytest.raises(InvalidRequest, match="docker-credential-tests") as caught:
        find_credentials("a.io")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("name", ["../../bin/sh", "a b", "a;touch x", "", "a\0b", 7, ["x"], "-x", "x" * 99])
def test_helpers_that_can_be_none(docker_config: Path, name: object) -> None:
    configure(docker_config, credHelpers={"a.io": name})
    if not name:
        assert find_credentials("a.io") is None
        return
    with pytest.raises(InvalidRequest, match="can be none"):
        find_credentials("a.io")


def test_a_helper_that_is_not_installed(docker_config: Path) -> None:
    configure(docker_config, credsStore="no-such-helper")
    with pytest.raises(InvalidRequest, match="docker-credential-no-such-helper is not installed"):
        find_credentials("a.io")
