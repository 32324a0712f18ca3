"""The command itself: help, versions, errors, and what is imported to get there."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.cli.conftest import done, wanrun
from tests.modelfile.files import save_parts
from wanrun.cli.main import ALIASES, COMMANDS

ROOT = Path(__file__).parents[2]
#: Slow to import, and needed by no command that lists or inspects.
HEAVY = {"torch", "numpy", "llama_cpp", "huggingface_hub", "imageio", "rich", "httpx", "PIL", "transformers"}


def test_help_names_every_command() -> None:
    text = done("--help")
    assert all(f"\n  {name} " in text for name in COMMANDS)
    assert done("-h") == text
    assert set(ALIASES.values()) <= set(COMMANDS)


@pytest.mark.parametrize("name", ["create", "show", "list", "cp", "rm", "inspect", "ls"])
def test_help_of_a_command(name: str) -> None:
    assert done(name, "--help").startswith(f"Usage: main {name}")


def test_version() -> None:
    assert done("--version") == f"wanrun version is {version('wanrun')}\n"


def test_wrong_usage() -> None:
    for words in (["nonsense"], ["list", "--nonsense"], ["inspect"]):
        result = wanrun(*words)
        assert result.exit_code == 2
        assert "Usage:" in result.stderr


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one bundle, made by the real command."""
    folder = tmp_path_factory.mktemp("cli")
    parts = save_parts(folder / "parts")
    made = run(folder, "-m", "wanrun.cli.main", "create", "wan", "-f", str(parts / "Modelfile"))
    assert made.returncode == 0, made.stderr
    return folder


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {"WANRUN_HOME": str(folder / "home"), "PATH": "/usr/bin:/bin"}
    return subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    "words",
    [
        "--help",
        "--version",
        "list",
        "show wan",
        "show wan --modelfile",
        "inspect {}/parts/umt5.gguf",
        "cp wan b",
        "rm b",
    ],
)
def test_what_is_imported(home: Path, words: str) -> None:
    """In a real process: what the command has imported when it is done."""
    code = "import sys; from wanrun.cli.main import main; main(standalone_mode=False); print(*sys.modules)"
    arguments = words.format(home).split()
    if arguments[0] == "rm":
        assert run(home, "-m", "wanrun.cli.main", "cp", "wan", "b").returncode == 0
    result = run(home, "-c", code, *arguments)
    assert result.returncode == 0, result.stderr
    imported = {name.partition(".")[0] for name in result.stdout.splitlines()[-1].split()}
    assert "click" in imported
    assert not imported & HEAVY


def test_errors_of_the_real_command(home: Path) -> None:
    result = run(home, "-m", "wanrun.cli.main", "show", "none")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "Error: model 'none:latest' not found: see 'wanrun list'\n"
