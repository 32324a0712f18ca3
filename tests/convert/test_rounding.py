"""A size is kept to, used, and spent where rounding hurts most."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from wanrun.cli.main import main
from wanrun.convert.rounding import sized
from wanrun.errors import InvalidRequest
from wanrun.gguf.imatrix import Imatrix, Moments
from wanrun.gguf.weights import open_weights
from wanrun.gguf.writer import TensorSource, write_gguf
from wanrun.wan.requantize import Importance, quantize_transformer

TOY = Path(__file__).parents[2] / "modelfiles" / "wan-toy" / "wan-toy-high-noise-Q8_0.gguf"


def quiet(phase: str, done: int, total: int) -> None:
    pass


@pytest.mark.parametrize("size", [3_100_000, 3_600_000, 5_000_000])
def test_files_are_as_large_as_they_may_be(tmp_path: Path, size: int) -> None:
    target = tmp_path / "out.gguf"
    done = CliRunner().invoke(main, ["quantize", str(TOY), str(target), "--size", f"{size}"])
    assert done.exit_code == 0, done.output
    assert 0.94 * size < target.stat().st_size <= size


def test_a_rule_holds_and_the_rest_makes_room(tmp_path: Path) -> None:
    target, size, rules = tmp_path / "out.gguf", 4_000_000, (("blocks.0.ffn.*.weight", "F16"),)
    recipe = sized(TOY, size, "Q4_K_M", None, rules, quiet)
    quantize_transformer(TOY, target, recipe.base, quiet, rules=(*recipe.rules, *rules))
    assert target.stat().st_size <= size
    with open_weights(target) as weights:
        assert weights.type("blocks.0.ffn.2.weight") == "F16"


def test_what_rounds_badly_gets_more_bits(tmp_path: Path) -> None:
    """One matrix has outliers in every row, which cost the others of its block their bits."""
    rough = "blocks.1.self_attn.q.weight"
    with open_weights(TOY) as weights:
        tensors: list[TensorSource] = []
        for name in weights.names:
            values = weights.tensor(name).numpy()
            if name == rough:
                values = values.copy()
                values[:, ::32] *= 40
            tensors.append((name, "F32", values.shape, values))
        write_gguf(tmp_path / "f32.gguf", {"general.architecture": "wan"}, tensors)
    plain = dict(sized(TOY, 3_200_000, "Q4_K_M", None, (), quiet).rules)
    size = 3_200_000 + 670_000 * 2  # the embeddings are F32 here
    changed = dict(sized(tmp_path / "f32.gguf", size, "Q4_K_M", None, (), quiet).rules)
    assert set(plain) == set(changed)
    # channels that never matter may be rounded away
    silent = np.zeros(256, np.float32)
    silent[::32] = 1
    seen = Imatrix({rough: Moments(silent, 1)})
    told = dict(sized(tmp_path / "f32.gguf", size, "Q4_K_M", seen, (), quiet).rules)
    assert told[rough] != changed[rough]
    importance = Importance(seen)
    quantize_transformer(
        tmp_path / "f32.gguf", tmp_path / "o", "Q4_K_M", quiet, importance, tuple(told.items())
    )


def test_too_small_a_size_is_refused(tmp_path: Path) -> None:
    for size in ("900KB", "1600KB"):
        done = CliRunner().invoke(main, ["quantize", str(TOY), str(tmp_path / "o"), "--size", size])
        assert done.exit_code == 1
        assert "too few" in done.output
    with pytest.raises(InvalidRequest, match="too few"):
        sized(TOY, 1000, "Q4_K_M", None, (), quiet)
    assert not list(tmp_path.glob("o*"))
    assert CliRunner().invoke(main, ["quantize", str(TOY), "o", "Q4_K_M", "--size", "9GB"]).exit_code == 2
