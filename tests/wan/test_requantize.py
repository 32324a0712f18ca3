"""Quantised transformers have the published files' types and compute nearly the same."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from wanrun.cli.main import main
from wanrun.errors import InvalidRequest
from wanrun.gguf.weights import open_weights
from wanrun.wan.context import fold_padding
from wanrun.wan.load import load_transformer
from wanrun.wan.mixes import MIXES, choose, find_mix
from wanrun.wan.requantize import quantize_transformer

SOURCE = Path(__file__).parents[2] / "modelfiles" / "wan-toy" / "wan-toy-high-noise-Q8_0.gguf"


@torch.inference_mode()
def velocity(path: Path) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    with open_weights(path) as weights:
        model = load_transformer(weights, "cpu", torch.float32)
    context = fold_padding([torch.randn(9, model.config.text_width, generator=generator)])
    latents = torch.randn(1, 16, 3, 8, 8, generator=generator)
    out: torch.Tensor = model(latents, torch.tensor([[900.0]]), context)
    return out


def test_more_bits_are_nearer_and_larger(tmp_path: Path) -> None:
    exact, errors, sizes = velocity(SOURCE), [], []
    for kind in ("Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0"):
        path = tmp_path / f"{kind}.gguf"
        quantize_transformer(SOURCE, path, kind, lambda *progress: None)
        errors.append(float((velocity(path) - exact).norm() / exact.norm()))
        sizes.append(path.stat().st_size)
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.02
    assert errors[-1] == 0  # what keeps its type keeps its bytes
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("kind", ["Q4_K_M", "Q4_0", "F16"])
def test_the_package_gguf_reads_the_types_that_were_asked_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "out.gguf"
    quantize_transformer(SOURCE, path, kind.lower(), lambda *progress: None)
    read = gguf.GGUFReader(path)
    types = {tensor.name: tensor.tensor_type.name for tensor in read.tensors}
    before = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(SOURCE).tensors}
    expected = {"Q4_K_M": ("Q4_K", "Q6_K", "Q6_K"), "Q4_0": ("Q4_0", "Q4_0", "Q4_1"), "F16": ("F16",) * 3}[
        kind
    ]
    names = ("self_attn.q", "cross_attn.v", "ffn.2")
    assert tuple(types[f"blocks.1.{name}.weight"] for name in names) == expected
    for name, stored in types.items():
        if not name.startswith("blocks.") or not name.endswith(
            (".q.weight", ".k.weight", ".v.weight", ".o.weight", ".0.weight", ".2.weight")
        ):
            assert stored == before[name]
    field = read.get_field("general.file_type")
    assert field is not None
    assert field.contents() == MIXES[kind].file_type
    tensor = next(t for t in read.tensors if t.name == "blocks.0.ffn.0.weight")
    with open_weights(path) as weights:
        ours = weights.tensor("blocks.0.ffn.0.weight").numpy()
    theirs = gguf.dequantize(tensor.data, tensor.tensor_type).reshape(ours.shape)
    assert np.array_equal(ours, theirs.astype(np.float32))


def test_the_first_blocks_and_odd_rows_are_exceptions() -> None:
    mix = find_mix("q3_k_m")
    values = [choose(mix, f"blocks.{index}.self_attn.v.weight", (1536, 1536)) for index in range(4)]
    assert values == ["Q5_K", "Q5_K", "Q4_K", "Q4_K"]
    assert choose(mix, "model.diffusion_model.blocks.0.ffn.2.weight", (1536, 8960)) == "Q4_K"
    assert choose(mix, "blocks.0.ffn.0.weight", (64, 100)) == "F16"
    for name in (
        "blocks.0.modulation",
        "head.head.weight",
        "time_projection.1.weight",
        "blocks.0.norm3.weight",
    ):
        assert choose(mix, name, (256, 256)) is None


def test_what_cannot_be_quantised_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "out.gguf"
    with pytest.raises(InvalidRequest, match="Q4_K_M"):
        quantize_transformer(SOURCE, target, "Q4_K_XXL", lambda *progress: None)
    with pytest.raises(InvalidRequest, match="no Wan transformer"):
        quantize_transformer(
            SOURCE.with_name("wan-toy-umt5-F16.gguf"), target, "Q4_0", lambda *progress: None
        )
    assert not target.exists()


def test_the_command_replaces_nothing_unasked(tmp_path: Path) -> None:
    target = tmp_path / "out.gguf"
    command = ["quantize", str(SOURCE), str(target), "q4_k_m"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert "out.gguf" in done.output
    size = target.stat().st_size
    assert size < SOURCE.stat().st_size
    assert CliRunner().invoke(main, command).exit_code == 1
    assert CliRunner().invoke(main, [*command, "--force"]).exit_code == 0
    assert target.stat().st_size == size
