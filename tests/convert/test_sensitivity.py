"""What a matrix costs is what a video loses that is made with it quantised, and mixes keep to their size."""

from __future__ import annotations

from math import prod
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import wanrun
from wanrun import pipeline
from wanrun.cli.main import main
from wanrun.convert import sensitivity
from wanrun.convert.mix import smoothed, solve, standard_bytes
from wanrun.convert.sensitivity import measure
from wanrun.convert.together import denoise_together
from wanrun.diffusion.experts import load
from wanrun.errors import FormatError, InvalidRequest
from wanrun.gguf.header import read_header
from wanrun.gguf.types import tensor_type
from wanrun.request import resolve
from wanrun.types import Bundle, GenerationRequest
from wanrun.wan.recipe import read_recipe, ruled
from wanrun.wan.requantize import quantize_transformer


def requests(bundle: Bundle, count: int = 2, **asked: object) -> list[GenerationRequest]:
    settings = {"precision": "fp32", "steps": 3, **asked}
    return [resolve(bundle, f"a red ball {seed}", {"seed": seed, **settings}) for seed in range(count)]


@pytest.mark.parametrize("guidance", [1, 3])
def test_videos_in_step_are_those_that_are_made_alone(guidance: float) -> None:
    bundle = wanrun.load("wan-toy")
    asked = requests(bundle, 3, guidance=guidance)
    conditionings = pipeline.encode_all(bundle, asked)
    with pipeline.open_denoiser(bundle, asked[0], "cpu") as denoiser:
        together = denoise_together(denoiser, asked, conditionings)
        for index, request in enumerate(asked):
            alone = pipeline.denoise(denoiser, request, conditionings[index])
            assert torch.allclose(together[index], alone, atol=1e-3)
        with pytest.raises(InvalidRequest, match="step cache"):
            denoise_together(denoiser, requests(bundle, cache="easycache"), conditionings)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Only these matrices and types, for time's sake."""
    names = ["blocks.0.ffn.2.weight", "blocks.3.cross_attn.v.weight"]
    monkeypatch.setattr(sensitivity, "quantisable", lambda path: iter(names))
    monkeypatch.setattr(sensitivity, "KINDS", ("Q2_K", "Q4_K"))
    return names


def test_the_error_is_that_of_a_file_with_this_matrix_quantised(few: list[str], tmp_path: Path) -> None:
    bundle = wanrun.load("wan-toy")
    asked = requests(bundle, 1)
    errors = measure(bundle, asked, {}, tmp_path / "table.json", device="cpu")
    assert {role: list(found) for role, found in errors.items()} == dict.fromkeys(bundle.experts, few)
    conditionings = pipeline.encode_all(bundle, asked)
    for role, name in (("high_noise", few[0]), ("low_noise", few[1])):
        path = tmp_path / f"{role}.gguf"
        rules = ((name, "Q2_K"),)
        quantize_transformer(bundle.experts[role].path, path, "Q8_0", pipeline.silent, None, rules)
        files = {each: component.path for each, component in bundle.experts.items()}
        lost = 0.0
        for request, conditioning in zip(asked, conditionings, strict=True):
            made = []
            for changed in (files, {**files, role: path}):
                with load(changed, request.boundary, "cpu", "fp32") as denoiser:
                    made.append(pipeline.denoise(denoiser, request, conditioning))
            lost += float((made[1] - made[0]).square().sum() / made[0].square().sum()) / len(asked)
        assert errors[role][name]["Q2_K"] == pytest.approx(lost, rel=0.02)
        assert errors[role][name]["Q4_K"] < errors[role][name]["Q2_K"]


def test_an_interrupted_measurement_goes_on(few: list[str], tmp_path: Path) -> None:
    bundle, table = wanrun.load("wan-toy"), tmp_path / "table.json"

    def stop(phase: str, done: int, total: int) -> None:
        if (phase, done) == ("measuring matrices", 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(bundle, requests(bundle, 1), {}, table, stop, device="cpu")
    done: list[int] = []
    errors = measure(
        bundle, requests(bundle, 1), {}, table, lambda phase, n, total: done.append(n), device="cpu"
    )
    assert done[-2:] == [3, 4]
    assert measure(bundle, requests(bundle, 1), {}, table, stop, device="cpu") == errors
    with pytest.raises(InvalidRequest, match="another model"):
        measure(bundle, requests(bundle, 2), {}, table, device="cpu")
    table.write_text('{"of": 1')
    with pytest.raises(FormatError, match="no table"):
        measure(bundle, requests(bundle, 1), {}, table, device="cpu")
    with pytest.raises(InvalidRequest, match="never used"):
        measure(bundle, requests(bundle, steps=1), {}, tmp_path / "other", device="cpu")


def test_a_mix_spends_bytes_where_they_count() -> None:
    header = read_header(wanrun.load("wan-toy").experts["high_noise"].path)
    names = [
        name for name in header.tensors if name.endswith(("q.weight", "ffn.0.weight")) and "blocks" in name
    ]
    kinds = {"Q2_K": 4.0, "Q4_K": 0.3, "Q6_K": 0.02}
    errors = {
        name: {kind: cost * (10 if ".3." in name else 1) for kind, cost in kinds.items()} for name in names
    }
    elements = {name: prod(header.tensors[name].shape) for name in names}
    budget = sum(tensor_type("Q4_K").nbytes(count) for count in elements.values())
    recipe = solve(header, errors, budget, "Q4_K_S", {"prompts": 3})
    types = {name: ruled(recipe.rules, name) or "" for name in names}
    spent = sum(tensor_type(types[name]).nbytes(count) for name, count in elements.items())
    assert spent <= budget
    assert recipe.about == {"prompts": 3, "bytes": spent, "error": pytest.approx(recipe.about["error"])}
    assert float(str(recipe.about["error"])) <= sum(errors[name]["Q4_K"] for name in names)
    bits = {name: tensor_type(types[name]).nbytes(256) for name in names}
    assert min(bits[name] for name in names if ".3." in name) > min(bits.values())
    with pytest.raises(InvalidRequest, match="too few"):
        solve(header, errors, 1000, "Q2_K", {})


def test_chance_is_taken_out_of_errors() -> None:
    exact = {name: {"Q2_K": 100 * share, "Q4_K": 4 * share, "Q6_K": 0.1 * share} for name, share in
             (("a", 1.0), ("b", 0.2), ("c", 7.0))}  # fmt: skip
    again = smoothed(exact)
    assert all(
        again[name][kind] == pytest.approx(cost) for name in exact for kind, cost in exact[name].items()
    )
    lucky = {**exact, "a": {**exact["a"], "Q4_K": 0.04}}
    assert 0.04 < smoothed(lucky)["a"]["Q4_K"] < 4
    assert smoothed({"a": {"Q2_K": 3.0, "Q8_0": 0.0}, "b": {"Q2_K": 0.0}}) == {
        "a": {"Q2_K": pytest.approx(3), "Q8_0": 0}, "b": {"Q2_K": 0}
    }  # fmt: skip


def test_the_command_writes_recipes_that_quantize_takes(few: list[str], tmp_path: Path) -> None:
    run = CliRunner()
    common = ["mix", "wan-toy", "--steps", "4", "--limit", "1", "--like", "q4_k_m"]
    result = run.invoke(main, [*common, "-o", str(tmp_path / "r.yaml")])
    assert result.exit_code == 0, result.output
    bundle = wanrun.load("wan-toy")
    for role, component in bundle.experts.items():
        recipe = read_recipe(tmp_path / f"r-{role}.yaml")
        assert recipe.base == "Q4_K_M"
        assert {name for name, _ in recipe.rules} == set(few)
        assert int(str(recipe.about["bytes"])) <= standard_bytes(read_header(component.path), "Q4_K_M")
    made = run.invoke(
        main,
        ["quantize", str(bundle.experts["low_noise"].path), str(tmp_path / "out.gguf"), "--recipe",
         str(tmp_path / "r-low_noise.yaml")],
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    assert run.invoke(main, [*common, "-o", str(tmp_path / "r.yaml")]).exit_code == 1
    assert (tmp_path / "r.yaml.measured").exists()
