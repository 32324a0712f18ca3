"""Converted networks have the checkpoint's tensors exactly, whoever published it, and say where from."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from tests.convert.published import State, as_comfy, as_diffusers, as_scaled_fp8, save_sharded, transformer
from wanrun.cli.main import main
from wanrun.convert.network import Wanted, convert
from wanrun.errors import FormatError, InvalidRequest, ModelNotFound, WanrunError
from wanrun.gguf.header import read_header
from wanrun.gguf.weights import open_weights
from wanrun.wan.detect import identify
from wanrun.wan.load import load_transformer, load_vae
from wanrun.wan.requantize import quantize_transformer

TOY = Path(__file__).parents[2] / "modelfiles" / "wan-toy"
BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32


def quiet(phase: str, done: int, total: int) -> None:
    pass


def tensors(path: Path) -> State:
    with open_weights(path) as weights:
        return {name: weights.tensor(name).clone() for name in weights.names}


def assert_equal(path: Path, meant: State) -> None:
    found = tensors(path)
    assert found.keys() == meant.keys()
    for name, value in meant.items():
        assert torch.equal(found[name], value.float()), name


def single(state: State, folder: Path) -> Path:
    folder.mkdir()
    save_file({name: value.contiguous() for name, value in state.items()}, folder / "model.safetensors")
    return folder / "model.safetensors"


@pytest.mark.parametrize("dtype", [F32, BF16, F16])
@pytest.mark.parametrize("dialect", [dict, as_comfy, as_diffusers])
@pytest.mark.parametrize("store", [single, save_sharded])
def test_every_tensor_comes_back_exactly(
    tmp_path: Path,
    dtype: torch.dtype,
    dialect: Callable[[State], State],
    store: Callable[[State, Path], Path],
) -> None:
    state = transformer(dtype)
    source = store(dialect(state), tmp_path / "in")
    kind = {F32: "F32", BF16: "BF16", F16: "F16"}[dtype]
    for place in (source, source.parent):
        target = tmp_path / f"{place.name}.gguf"
        convert(place, target, quiet, Wanted(type=kind))
        assert_equal(target, state)
    with open_weights(target) as weights:
        assert weights.type("blocks.0.ffn.0.weight") == kind
        assert weights.type("blocks.0.modulation") == weights.type("head.head.bias") == "F32"
        assert (weights.type("patch_embedding.weight"), len(weights.shape("patch_embedding.weight"))) == (
            "F32",
            5,
        )
        load_transformer(weights, "cpu", F32)


@pytest.mark.parametrize(("dtype", "kind"), [(F32, "BF16"), (BF16, "BF16"), (F16, "F16")])
def test_a_transformer_becomes_what_it_was_trained_in(tmp_path: Path, dtype: torch.dtype, kind: str) -> None:
    state, target = transformer(dtype), tmp_path / "out.gguf"
    convert(single(state, tmp_path / "in"), target, quiet)
    rounded = {F32: BF16}.get(dtype, dtype)
    assert_equal(target, {n: v.to(rounded) if v.ndim == 2 else v for n, v in state.items()})
    assert {tensor.tensor_type.name for tensor in gguf.GGUFReader(target).tensors} == {kind, "F32"}


def test_half_precision_is_within_half_a_unit_in_the_last_place(tmp_path: Path) -> None:
    state, target = transformer(F32), tmp_path / "out.gguf"
    convert(single(state, tmp_path / "in"), target, quiet, Wanted(type="F16"))
    for name, value in tensors(target).items():
        exact = state[name].double()
        exponent = torch.frexp(exact)[1].clamp(min=-13)
        assert ((value.double() - exact).abs() <= 2.0 ** (exponent - 12)).all(), name


def test_scaled_fp8_is_multiplied_out(tmp_path: Path) -> None:
    stored, meant = as_scaled_fp8(transformer(BF16))
    source = single(as_comfy(stored), tmp_path / "in")
    convert(source, tmp_path / "exact.gguf", quiet, Wanted(type="F32"))
    assert_equal(tmp_path / "exact.gguf", meant)
    convert(source, tmp_path / "half.gguf", quiet)
    matrices = [name for name in meant if f"{name.removesuffix('.weight')}.scale_weight" in stored]
    assert_equal(tmp_path / "half.gguf", meant | {name: meant[name].half() for name in matrices})
    quantize_transformer(source, tmp_path / "q.gguf", "Q8_0", quiet)
    assert (tmp_path / "q.gguf").exists()


def test_where_a_file_comes_from_is_noted(tmp_path: Path) -> None:
    state, folder = transformer(BF16), tmp_path / "Wan"
    save_sharded(state, folder / "high_noise_model")
    save_sharded(state, folder / "low_noise_model")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\ntags: [video]\n---\n# Wan\n")
    with pytest.raises(InvalidRequest, match="high_noise, low_noise; say which"):
        convert(folder, tmp_path / "out.gguf", quiet)
    convert(folder, tmp_path / "out.gguf", quiet, Wanted(role="low_noise"))
    fields = {key: field.contents() for key, field in gguf.GGUFReader(tmp_path / "out.gguf").fields.items()}
    assert fields["general.architecture"] == "wan"
    assert fields["general.file_type"] == gguf.LlamaFileType.MOSTLY_BF16
    assert fields["general.license"] == "apache-2.0"
    assert fields["wanrun.role"] == "low_noise"
    arrays = [field for field in fields.values() if isinstance(field, list)]
    assert not arrays  # of strings, which stable-diffusion.cpp cannot read
    shards = sorted((folder / "low_noise_model").glob("*.safetensors"))
    lines = [f"{hashlib.sha256(shard.read_bytes()).hexdigest()}  {shard.name}" for shard in shards]
    assert fields["wanrun.source.sha256"].splitlines() == lines
    assert identify(read_header(tmp_path / "out.gguf")).expert == "low_noise"


def test_diffusers_folders_have_their_experts_in_order(tmp_path: Path) -> None:
    for name in ("transformer", "transformer_2"):
        save_sharded(as_diffusers(transformer(BF16)), tmp_path / "in" / name, 1)
    convert(tmp_path / "in", tmp_path / "out.gguf", quiet, Wanted(role="high_noise"))
    assert identify(read_header(tmp_path / "out.gguf")).expert == "high_noise"
    with pytest.raises(InvalidRequest, match="not vae"):
        convert(tmp_path / "in", tmp_path / "vae.gguf", quiet, Wanted(role="vae"))


@pytest.mark.parametrize("name", ["vae.gguf", "vae.safetensors"])
@pytest.mark.parametrize("kind", [None, "F16", "F32"])
def test_vaes_keep_their_types_or_get_the_one_asked_for(tmp_path: Path, name: str, kind: str | None) -> None:
    source, target = TOY / "wan-toy-vae.safetensors", tmp_path / name
    convert(source, target, quiet, Wanted(type=kind))
    before = load_file(source)
    convolutions = [key for key, value in before.items() if value.ndim >= 4 and not key.endswith("gamma")]
    assert_equal(target, before | {key: before[key].half() for key in convolutions if kind == "F16"})
    if name.endswith("safetensors"):
        assert load_file(target).keys() == before.keys()
    with open_weights(target) as weights:
        load_vae(weights, "cpu", F32)


def rewritten(index: Path, change: Callable[[dict[str, str]], object]) -> None:
    content = json.loads(index.read_text())
    content["weight_map"] = change(content["weight_map"])
    index.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda homes: homes | dict.fromkeys(list(homes)[:1], "../../etc/passwd"), "no safetensors file"),
        (lambda homes: homes | dict.fromkeys(list(homes)[:1], "/etc/x.safetensors"), "no safetensors file"),
        (lambda homes: homes | dict.fromkeys(list(homes)[:1], "..\\x.safetensors"), "no safetensors file"),
        (lambda homes: homes | {"more.weight": "none.safetensors"}, "missing: none.safetensors"),
        (lambda homes: homes | {"more.weight": next(iter(homes.values()))}, "'more.weight' should be in"),
        (lambda homes: dict(list(homes.items())[1:]), "should be in no file"),
        (lambda homes: dict(zip(homes, reversed(homes.values()), strict=True)), "disagree"),
        (lambda homes: {}, "weight_map"),
        (lambda homes: [1], "weight_map"),
        (lambda homes: dict.fromkeys(homes, 3), "weight_map"),
    ],
)  # fmt: skip
def test_an_index_that_lies_is_refused(
    tmp_path: Path, change: Callable[[dict[str, str]], object], message: str
) -> None:
    index = save_sharded(transformer(BF16), tmp_path / "in")
    rewritten(index, change)
    with pytest.raises((FormatError, ModelNotFound), match=message.replace("\\", r"\\")):
        convert(index.parent, tmp_path / "out.gguf", quiet)
    assert not list(tmp_path.glob("*out*"))


def test_shards_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    state = transformer(BF16)
    index = save_sharded(state, tmp_path / "in")
    first, second, _ = sorted(index.parent.glob("*.safetensors"))
    save_file(load_file(first) | dict(list(load_file(second).items())[:1]), first)
    with pytest.raises(FormatError, match="is in two shards"):
        convert(index, tmp_path / "out.gguf", quiet)
    second.unlink()
    with pytest.raises(ModelNotFound, match=second.name):
        convert(index, tmp_path / "out.gguf", quiet)
    for text in (
        "",
        "{",
        "[]",
        '{"weight_map": {"a": "b.safetensors", "a": "c.safetensors"}}',
        "[" * 100_000,
    ):
        index.write_text(text)
        with pytest.raises(FormatError, match="no index"):
            convert(index, tmp_path / "out.gguf", quiet)


def test_missing_and_misshapen_tensors_are_named(tmp_path: Path) -> None:
    state = transformer(BF16)
    del state["blocks.1.cross_attn.k.bias"]
    with pytest.raises(FormatError, match=r"missing, such as blocks\.1\.cross_attn\.k\.bias"):
        convert(single(state, tmp_path / "missing"), tmp_path / "out.gguf", quiet)
    state = transformer(BF16)
    state["blocks.1.ffn.2.weight"] = state["blocks.1.ffn.2.weight"][:, :300]
    with pytest.raises(FormatError, match=r"blocks\.1\.ffn\.2\.weight \(128, 300\), expected \(128, 320\)"):
        convert(single(state, tmp_path / "wrong"), tmp_path / "out.gguf", quiet)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("blocks.0.ffn.0.scale_weight", torch.ones(7), "neither one scale"),
        ("blocks.0.ffn.7.scale_weight", torch.ones(()), "scales no fp8 weight"),
        (
            "blocks.0.ffn.0.comfy_quant",
            torch.tensor(list(b'{"format": "nvfp4"}'), dtype=torch.uint8),
            "'nvfp4'",
        ),
        ("blocks.0.ffn.0.comfy_quant", torch.tensor(list(b"{"), dtype=torch.uint8), "no description"),
    ],
)
def test_scales_that_fit_nothing_are_refused(
    tmp_path: Path, name: str, value: torch.Tensor, message: str
) -> None:
    stored, _ = as_scaled_fp8(transformer(BF16))
    with pytest.raises(FormatError, match=message):
        convert(single(stored | {name: value}, tmp_path / "in"), tmp_path / "out.gguf", quiet)


def test_pickles_and_others_are_refused(tmp_path: Path) -> None:
    (tmp_path / "Wan").mkdir()
    pickled = tmp_path / "Wan" / "Wan2.1_VAE.pth"
    pickled.write_bytes(pickle.dumps({"a": 1}))
    for source in (pickled, pickled.parent):
        with pytest.raises(FormatError, match="pickled"):
            convert(source, tmp_path / "out.gguf", quiet)
    save_file({"lora_unet.lora_down.weight": torch.ones(2, 2)}, tmp_path / "lora.safetensors")
    for source, error in (
        (tmp_path / "lora.safetensors", InvalidRequest),
        (tmp_path / "none", ModelNotFound),
    ):
        with pytest.raises(error):
            convert(source, tmp_path / "out.gguf", quiet)
    vae = TOY / "wan-toy-vae.safetensors"
    for wanted in (Wanted(role="high_noise"), Wanted(type="Q4_K"), Wanted(role="text_encoder")):
        with pytest.raises(WanrunError):
            convert(vae, tmp_path / "out.gguf", quiet, wanted)


def test_the_command_converts_and_the_result_quantises(tmp_path: Path) -> None:
    state, target = transformer(BF16), tmp_path / "out-high-noise.gguf"
    index = save_sharded(as_diffusers(state), tmp_path / "in")
    command = ["convert", str(index.parent), str(target), "--type", "bf16", "--license", "mit"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert_equal(target, state)
    assert CliRunner().invoke(main, command).exit_code == 1
    small = tmp_path / "small.gguf"
    rules = ["--tensor", "blocks.*.ffn.*=Q8_0", "--tensor", "blocks.1.ffn.2.weight=F16"]
    done = CliRunner().invoke(main, ["quantize", str(target), str(small), "q4_k_m", *rules])
    assert done.exit_code == 0, done.output
    reader = gguf.GGUFReader(small)
    types = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    # rows of 128 are no whole blocks of 256
    assert types["blocks.0.self_attn.q.weight"] == "Q5_0"
    assert types["blocks.0.self_attn.v.weight"] == types["blocks.0.ffn.0.weight"] == "Q8_0"
    assert types["blocks.1.ffn.2.weight"] == "F16"
    exact = {tensor.name: tensor for tensor in gguf.GGUFReader(target).tensors}
    for tensor in reader.tensors:
        if not tensor.name.startswith("blocks.") or "norm" in tensor.name or "modulation" in tensor.name:
            assert np.array_equal(tensor.data, exact[tensor.name].data)
    assert reader.fields["general.license"].contents() == "mit"
