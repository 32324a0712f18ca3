"""The import rules: arrows point down only, and torch stays where it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "wanrun"

_BASE = {"errors", "types", "settings", "options"}
_STAGE = _BASE | {"wan", "gguf"}
_TEXT = _STAGE | {"prompts"}
_MIDDLE = _BASE | {"plugins", "signatures", "store", "modelfile", "sources", "wan", "gguf"}
_RUN = _MIDDLE | {"request", "pipeline", "sampling", "text", "decoders", "video", "prompts"}
#: What each part may import besides itself.
ALLOWED = {
    "errors": set(),
    "settings": {"errors"},
    "options": {"errors"},
    "signatures": {"errors"},
    "types": {"errors", "video"},  # a clip saves itself through the writer, imported when it does
    "gguf": {"errors", "settings"},
    "wan": {"errors", "gguf"},
    "prompts": {"errors"},
    "text": _TEXT,
    "diffusion": _STAGE,
    "decoders": _STAGE,
    "sampling": _STAGE,
    "video": _STAGE,
    "plugins": _BASE | {"signatures"},
    "sources": _MIDDLE | {"__init__"},
    "modelfile": _MIDDLE,
    "store": _MIDDLE | {"__init__"},
    "request": _MIDDLE | {"prompts"},
    "pipeline": _RUN,
    "runtime": _RUN,
    "convert": _RUN | {"runtime"},
    "evaluate": _RUN | {"runtime"},
    "batch": _RUN,
    "server": _RUN | {"runtime", "__init__"},
    "cli": _RUN | {"runtime", "batch", "convert", "evaluate", "server", "__init__"},
    "__init__": _RUN,
}  # fmt: skip
TORCH = {"gguf", "wan", "text", "diffusion", "decoders", "sampling", "evaluate", "convert"}


def _modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _part(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.stem if len(relative.parts) == 1 else relative.parts[0]


def _type_checking(tree: ast.Module) -> set[ast.AST]:
    """Nodes that only a type checker runs."""
    return {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }


def _imports(path: Path) -> Iterator[str]:
    """Dotted names of what a module imports at run time."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    ignored = _type_checking(tree)
    for node in ast.walk(tree):
        if node in ignored:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _target(name: str) -> str | None:
    """The part of our package that an import reaches, None for others'."""
    parts = name.split(".")
    if parts[0] != "wanrun":
        return None
    inner = parts[1] if len(parts) > 1 else "__init__"
    return inner if (PACKAGE / inner).is_dir() or (PACKAGE / f"{inner}.py").is_file() else "__init__"


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_point_down(path: Path) -> None:
    part = _part(path)
    assert part in ALLOWED, f"{part} has no place in the import rules"
    for name in _imports(path):
        target = _target(name)
        assert target is None or target == part or target in ALLOWED[part], f"{part} imports {name}"
        assert name.split(".")[0] != "torch" or part in TORCH, f"{part} imports torch"


def test_the_rules_see_an_import_that_breaks_them(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    from wanrun.cli import main\n    import torch\n")
    assert {_target(name) for name in _imports(bad)} == {"cli", None}
    assert "torch" in set(_imports(bad))


@pytest.mark.parametrize(
    "arguments", [["--help"], ["list"], ["--version"], ["run", "--help"], ["serve", "--help"]]
)
def test_commands_start_without_torch(arguments: list[str], home: Path) -> None:
    code = (
        "import sys\nfrom wanrun.cli.main import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = {'torch', 'numpy', 'llama_cpp', 'PIL', 'rich', 'httpx', 'fastapi', 'uvicorn'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


def test_every_part_has_its_tests() -> None:
    """A suite that is not collected cannot fail."""
    for folder in PACKAGE.iterdir():
        sources = (
            [path for path in folder.glob("*.py") if path.name != "__init__.py"] if folder.is_dir() else []
        )
        if sources:
            assert list((ROOT / "tests" / folder.name).glob("test_*.py")), f"no tests: {folder.name}"
