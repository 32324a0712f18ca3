"""create, list, show, cp, rm: a bundle's life on the command line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.conftest import done, refused, wanrun
from tests.modelfile.files import MODELFILE, lora, save, save_adapters
from wanrun.modelfile import library
from wanrun.modelfile.grammar import parse


@pytest.fixture
def wan(home: Path, parts: Path) -> str:
    done("create", "wan", "-f", parts / "Modelfile")
    return "wan"


def test_create(home: Path, parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(parts)
    result = wanrun("create", "me/Wan:Q8")
    assert re.fullmatch(r"created 'me/wan:q8' \([0-9a-f]{12}\)\n", result.stdout)
    assert "copying vae.safetensors" in result.stderr or "reading vae.safetensors" in result.stderr


def test_create_refuses(home: Path, parts: Path, tmp_path: Path) -> None:
    assert refused("create", "../x", "-f", parts / "Modelfile").startswith("invalid model name: '../x'")
    assert "no Modelfile at" in refused("create", "wan", "-f", tmp_path / "none")
    bad = parts / "Bad"
    bad.write_text("VAR x\nPARAMETER steps many\n", encoding="utf-8")
    assert refused("create", "wan", "-f", bad).splitlines() == [
        f"{bad} has 2 mistakes:",
        "line 1, column 1: unknown instruction 'VAR': did you mean VAE?",
        "line 2, column 11: steps must be a whole number from 1 to 1000 (steps), not 'many'",
    ]
    bad.write_text(
        MODELFILE.replace("VAE vae", "VAE tae").replace("umt5.gguf", "vae.safetensors"), encoding="utf-8"
    )
    assert refused("create", "wan", "-f", bad).splitlines() == [
        "text_encoder: vae.safetensors: this is a VAE, not a text encoder",
        "vae: tae.safetensors: this is a tiny decoder, not a VAE",
    ]
    assert wanrun("create").exit_code == 2


def test_list(wan: str) -> None:
    done("cp", "wan", "me/other:x")
    for command in ("list", "ls"):
        header, first, second = done(command).splitlines()
        assert re.fullmatch(r"NAME +ID +SIZE +MODIFIED", header)
        assert re.fullmatch(r"wan:latest    [0-9a-f]{12}    [0-9.]+ [KM]B    (Less|About|\d).* ago", first)
        assert second.startswith("me/other:x    ")
        column = header.index("ID")
        assert all(line[column - 4 : column].isspace() and line[column] != " " for line in (first, second))
    assert [line.split()[0] for line in done("list", "ME/").splitlines()] == ["NAME", "me/other:x"]


def test_an_empty_list_has_its_header(home: Path) -> None:
    assert done("list") == "NAME    ID    SIZE    MODIFIED\n"
    assert not home.exists()


def test_list_warns_of_damage_and_goes_on(wan: str, home: Path) -> None:
    done("cp", "wan", "broken")
    (home / "manifests" / "wanrun.local" / "library" / "broken" / "latest").write_bytes(b"")
    result = wanrun("list")
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 2)
    assert result.stderr.startswith("Warning: the manifest of broken:latest is damaged")


def test_copy_and_remove(wan: str) -> None:
    assert done("cp", "wan", "a") == "copied 'wan' to 'a'\n"
    assert done("rm", "wan", "a") == "deleted 'wan'\ndeleted 'a'\n"
    assert refused("rm", "wan") == "model 'wan' not found: see 'wanrun list'\n"
    assert refused("cp", "wan", "b") == "model 'wan:latest' not found: see 'wanrun list'\n"
    assert wanrun("rm").exit_code == 2


def test_show(wan: str) -> None:
    text = done("show", "wan")
    titles = [line.strip() for line in text.splitlines() if re.match(r"  \S", line)]
    assert titles == ["Model", "Components", "Parameters", "Template", "Negative", "License"]
    for row in (
        r"    experts +2",
        r"    width +128",
        r"    quantization +F16",
        r"    high noise +wan-high_noise.safetensors +wan \(custom\) +F16 +\d+ KB +[0-9a-f]{12}",
        r"    text encoder +umt5.gguf +umt5 \(custom\) +F32 +\d+ KB +[0-9a-f]{12}",
        r"    size +64x48",
        r"    \{\{ prompt \}\}, cinematic",
        r"    See the file\.",
    ):
        assert re.search(f"^{row}$", text, re.MULTILINE), row


def test_show_one_thing(wan: str) -> None:
    assert done("show", "wan", "--license") == "Apache-2.0\nSee the file.\n"
    assert done("show", "wan", "--template") == "{{ prompt }}, cinematic\n"
    assert done("show", "wan", "--system") == "\n"
    assert re.search(r"^steps +12$", done("show", "wan", "--parameters"), re.MULTILINE)
    result = wanrun("show", "wan", "--license", "--system")
    assert result.exit_code == 2
    assert "only one of '--license'" in result.stderr


def test_show_modelfile_makes_the_same_again(wan: str, tmp_path: Path) -> None:
    text = done("show", "wan", "--modelfile")
    assert "# FROM wan:latest\n" in text
    assert parse(text).parameters["steps"] == 12
    (tmp_path / "Again").write_text(text, encoding="utf-8", newline="")
    done("create", "again", "-f", tmp_path / "Again")
    ids = {line.split()[1] for line in done("list").splitlines()[1:]}
    assert len(ids) == 1


def test_show_adapters(home: Path, parts: Path, tmp_path: Path) -> None:
    """Each with its expert and scale, what is left out of it, and a Modelfile that names them again."""
    lines = save_adapters(parts)
    save(parts / "style.safetensors", lora() | {"lora_te_layer.alpha": ()}, 0.3)
    (parts / "Adapted").write_text(MODELFILE + lines, encoding="utf-8")
    result = wanrun("create", "adapted", "-f", parts / "Adapted")
    note = "1 keys (lora_te_layer.alpha) match nothing and are left out"
    assert f"Note: style.safetensors: {note}\n" in result.stderr
    shown = done("show", "adapted")
    rows = re.findall(r"^ +(\w+ \w+) +(\S+) +scale (\S+) +\S+ KB +[0-9a-f]{12}(.*)$", shown, re.MULTILINE)
    assert [(*row[:3], row[3].strip()) for row in rows] == [
        ("high noise", "lightning_high.safetensors", "1", ""),
        ("low noise", "lightning_low.safetensors", "0.75", ""),
        ("all experts", "style.safetensors", "-0.5", note),
    ]
    text = done("show", "adapted", "--modelfile")
    assert "#   adapter: style.safetensors\n" in text
    (tmp_path / "Again").write_text(text, encoding="utf-8")
    done("create", "again", "-f", tmp_path / "Again")
    first, second = (line.split()[1] for line in done("list").splitlines()[1:])
    assert first == second


def test_show_from_the_shipped_library(home: Path, parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = parts.parent
    monkeypatch.setattr(library, "__file__", str(root / "wanrun" / "modelfile" / "library.py"))
    (root / "modelfiles").mkdir()
    parts.rename(root / "modelfiles" / "wan-x")
    text = done("show", "wan-x")
    assert re.search(r"^    vae +vae.safetensors +wan vae 2.1 +F16 +\d+ KB +-$", text, re.MULTILINE)
    assert "steps" in done("show", "wan-x", "--parameters")
    assert not home.exists()
    (root / "modelfiles" / "wan-x" / "vae.safetensors").unlink()
    assert re.search(r"^    vae +vae.safetensors +not here$", done("show", "wan-x"), re.MULTILINE)
    assert refused("show", "wan-z") == "model 'wan-z:latest' not found: see 'wanrun list'\n"


def test_hostile_titles_cannot_steer_the_terminal(home: Path, parts: Path) -> None:
    name = "vae\x1b[2J\nVAE.safetensors"
    (parts / "vae.safetensors").rename(parts / name)
    (parts / "Modelfile").write_text(MODELFILE.replace("VAE vae.safetensors", ""), encoding="utf-8")
    assert refused("create", "wan", "-f", parts / "Modelfile").startswith("VAE is missing")
    assert "\x1b" not in done("inspect", parts / name)
