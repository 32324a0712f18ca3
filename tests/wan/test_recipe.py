"""Recipes come back as they were written; patterns are the shell's, and the last one that fits decides."""

from __future__ import annotations

from pathlib import Path

import pytest

from wanrun.errors import FormatError, InvalidRequest, ModelNotFound
from wanrun.wan.recipe import Recipe, read_recipe, rule, ruled, write_recipe


def test_recipes_come_back(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    rules = (("blocks.*.ffn.2.weight", "Q5_K"), ("blocks.[0-3].self_attn.v.weight", "Q6_K"))
    for recipe in (Recipe(rules, "Q4_K_S", {"seed": 7, "prompts": ["球"]}), Recipe(), Recipe(rules)):
        write_recipe(path, recipe)
        assert read_recipe(path) == recipe


def test_the_last_pattern_that_fits_decides() -> None:
    rules = (rule("*=Q4_K"), rule("blocks.[01].*.v.weight=q6_k"), rule("blocks.1.self_attn.v.weight=F16"))
    assert ruled(rules, "blocks.0.self_attn.v.weight") == "Q6_K"
    assert ruled(rules, "blocks.1.self_attn.v.weight") == "F16"
    assert ruled(rules, "blocks.2.self_attn.v.weight") == "Q4_K"
    assert ruled(rules[1:], "blocks.10.self_attn.v.weight") is None


@pytest.mark.parametrize("text", ["", "Q4_K", "=Q4_K", "blocks.*=", "blocks.*=Q4_K_M", "blocks.*=F8_E4M3"])
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        rule(text)


@pytest.mark.parametrize(
    "text",
    ["", "- a", "tensors: [a]", "tensors: {a: 4}", "tensors: {a: Q9}", "base: Q9", "base: [1]", "rules: {}",
     "tensors: {a: Q4_K", "about: 3", "!!python/object/apply:os.system [ls]", "[" * 5000],
)  # fmt: skip
def test_what_is_no_recipe_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(FormatError, match=r"recipe\.yaml"):
        read_recipe(path)
    with pytest.raises(ModelNotFound):
        read_recipe(tmp_path / "none.yaml")
