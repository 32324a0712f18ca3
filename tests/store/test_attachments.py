"""Reports and recipes are layers of a bundle: they are shown, copied, exported, and hurt nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import wanrun
from wanrun.cli.attached import summary
from wanrun.cli.main import main
from wanrun.errors import InvalidRequest, ModelNotFound
from wanrun.store.attachments import RECIPE_TYPE, REPORT_TYPE, attach, attached
from wanrun.store.digest import Digest
from wanrun.store.manifests import Layer
from wanrun.store.names import parse_name
from wanrun.store.store import open_store

REPORT = {
    "suite": "fidelity",
    "reference": {"name": "wan-toy-f16"},
    "model": {"toy": {"colour": 0.96, "shape": 0.8}},
    "mean": {"error": 0.125, "cosine": 0.991, "psnr": None, "ssim": 0.9321, "lpips": None, "drift": [0.1]},
    "videos": [{}, {}, {}],
}
RECIPE = "base: Q4_K_M\ntensors:\n  blocks.0.ffn.2.weight: Q6_K\nabout: {bytes: 2000000}\n"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    wanrun.load("wan-toy")
    report, recipe = tmp_path / "report.json", tmp_path / "mix.yaml"
    report.write_text(json.dumps(REPORT))
    recipe.write_text(RECIPE)
    return report, recipe


def run(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_they_travel_and_are_shown(files: tuple[Path, Path], tmp_path: Path) -> None:
    before = open_store().get("wan-toy")
    run("attach", "wan-toy", *files)
    assert open_store().get("wan-toy") == before
    run("export", "wan-toy", tmp_path / "toy.tar")
    run("rm", "wan-toy")
    run("import", tmp_path / "toy.tar")
    run("cp", "wan-toy", "other")
    run("verify", "other")
    shown = run("show", "other")
    for text in (
        "Report",
        "wan-toy-f16",
        "12.50%",
        "0.99100",
        "0.9321",
        "colour 96%",
        "Recipe",
        "1 Q6_K",
        "2 MB",
    ):
        assert text in shown
    assert "PSNR" not in shown
    kinds = [(layer.media_type, layer.title) for layer, _ in attached(open_store(), parse_name("other"))]
    assert kinds == [(REPORT_TYPE, "report.json"), (RECIPE_TYPE, "mix.yaml")]


def test_a_newer_one_takes_the_place_of_an_older(files: tuple[Path, Path]) -> None:
    store = open_store()
    attach(store, "wan-toy", files[0])
    files[0].write_text(json.dumps({**REPORT, "suite": "toy"}))
    attach(store, "wan-toy", files[0])
    ((_, data),) = attached(store, parse_name("wan-toy"))
    assert json.loads(data)["suite"] == "toy"


def test_other_files_are_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    store, before = open_store(), open_store().manifest("wan-toy").digest
    bad = tmp_path / "bad"
    for content in (b"", b"[1]", b"{}", b'{"suite": 3}', b"\xff", b"tensors: {a: Q9}", bytes(5 << 20)):
        bad.write_bytes(content)
        with pytest.raises(InvalidRequest):
            attach(store, "wan-toy", bad)
    with pytest.raises(InvalidRequest):
        attach(store, "wan-toy", tmp_path / "none")
    with pytest.raises(ModelNotFound):
        attach(store, "none", files[0])
    assert store.manifest("wan-toy").digest == before
    assert attached(store, parse_name("none")) == []


@pytest.mark.parametrize(
    "content",
    ["[]", "{", '{"suite": {"a": 1}, "mean": [], "videos": 3, "model": {"toy": {"a": []}}}', "[" * 500,
     '{"suite": "x", "mean": {"error": "a", "psnr": true}, "rates": {"one": {"a": [1]}, "two": 3}}', '""'],
)  # fmt: skip
def test_reports_of_anybody_are_shown_as_far_as_they_go(content: str) -> None:
    layer = Layer(REPORT_TYPE, Digest.of(content.encode()), len(content), title="report.json")
    title, rows = summary(layer, content.encode())
    assert title == "Report"
    assert all(isinstance(cell, str) for row in rows for cell in row)
    recipe = Layer(RECIPE_TYPE, Digest.of(content.encode()), len(content), title="recipe.yaml")
    assert summary(recipe, content.encode())[1] == [("file", "recipe.yaml")]
