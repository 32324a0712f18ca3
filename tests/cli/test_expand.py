"""``--expand`` and what a seed chooses, from the command line to the file."""

from __future__ import annotations

from pathlib import Path

import pytest

import wanrun
from tests.bundles import Parts, make_parts
from tests.cli.conftest import done, refused
from tests.cli.conftest import wanrun as command
from tests.runtime.machines import keep
from wanrun import pipeline
from wanrun.request import resolve
from wanrun.video.provenance import read_provenance

_QUICK = ("--steps", "1", "--frames", "1", "--seed", "3", "--device", "cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return make_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(autouse=True)
def tiny(model: Parts, home: Path) -> None:
    keep(home)
    done("create", "tiny", "-f", model.modelfile)


def test_the_expansion_is_shown_before_the_run_and_stored_in_the_file(tmp_path: Path, home: Path) -> None:
    out = tmp_path / "clip.mp4"
    result = command(
        "run", "tiny", "a (red:1.3) [ball | ball] bouncing", "--expand", "template", *_QUICK, "-o", out
    )
    assert result.exit_code == 0, result.output
    request = read_provenance(out)["request"]
    assert request["written"] == "a (red:1.3) [ball | ball] bouncing"
    assert request["prompt"] == "a (red:1.3) ball bouncing"
    assert request["expanded"].startswith("a (red:1.3) ball bouncing in ")
    assert request["expand"] == "template"
    shown = f"Prompt: {request['expanded']}"
    assert shown in result.stderr
    assert result.stderr.index(shown) < result.stderr.index("denoising")
    assert len(list((home / "cache" / "expansions").glob("*.json"))) == 1


def test_the_expanded_prompt_is_what_the_model_reads() -> None:
    bundle = wanrun.load("tiny")
    request = pipeline.expand(bundle, resolve(bundle, "a red ball", {"seed": 3, "expand": "template"}))
    assert pipeline.expand(bundle, request) is request
    plain = resolve(bundle, request.expanded, {"seed": 3})
    with pipeline.open_encoder(bundle) as encoder:
        found, expected = pipeline.encode(encoder, request), pipeline.encode(encoder, plain)
    assert found.positive.equal(expected.positive)
    assert pipeline.expand(bundle, plain) is plain


def test_a_modelfile_may_expand_every_prompt(model: Parts, tmp_path: Path) -> None:
    file = tmp_path / "Modelfile"
    file.write_text('FROM tiny\nPARAMETER expand template\nSYSTEM """slots: mood\nmood: quiet"""\n', "utf-8")
    done("create", "moody", "-f", file)
    bundle = wanrun.load("moody")
    assert pipeline.expand(bundle, resolve(bundle, "a ball", {})).text == "a ball, quiet"
    assert pipeline.expand(bundle, resolve(bundle, "a ball", {"expand": "none"})).text == "a ball"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("a ball", "--expand", "llama"), "EXPANDER"),
        (("a (ball:9)",), "weights are from 0 to 5"),
        (("a $ball",), "no YAML file"),
        (("a ball", "--negative", "(x:7)"), "weights are from 0 to 5"),
    ],
)
def test_what_cannot_be_read_is_refused_before_anything_is_loaded(
    arguments: tuple[str, ...], why: str
) -> None:
    assert why in refused("run", "tiny", *arguments, *_QUICK)


@pytest.mark.parametrize("name", ["nobody", "template:words=3"])
def test_an_expander_that_is_none_is_refused(name: str) -> None:
    assert "expand" in refused("run", "tiny", "a ball", "--expand", name, *_QUICK)
