"""The command line with a home and files of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.modelfile.files import save_parts
from wanrun.cli.main import main


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WANRUN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers, whatever runs on this machine."""
    monkeypatch.setenv("WANRUN_HOST", "127.0.0.1:0")


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    return save_parts(tmp_path / "parts")


def wanrun(*words: str | Path) -> Result:
    """``wanrun WORDS``; a traceback is never an answer."""
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def done(*words: str | Path) -> str:
    """What ``wanrun WORDS`` prints when it succeeds."""
    result = wanrun(*words)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*words: str | Path) -> str:
    """What ``wanrun WORDS`` complains of."""
    result = wanrun(*words)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ")
    return result.stderr.removeprefix("Error: ")
