"""LoRA at run time against weights with the same changes merged in, for every dialect and kind of layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import WanPipeline
from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_wan_lora_to_diffusers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.wan.conftest import diffusers_transformer, relative_error
from tests.wan.loras import BLOCK, DIALECTS, OUTSIDE, Made, blocks, differences, low_rank
from wanrun.errors import FormatError
from wanrun.gguf import ggml
from wanrun.gguf.int8 import Int8Linear
from wanrun.gguf.linear import GgmlLinear, QuantLinear
from wanrun.gguf.onednn import PackedLinear, packs
from wanrun.gguf.policy import Policy
from wanrun.gguf.weights import open_weights
from wanrun.gguf.writer import write_gguf
from wanrun.wan.config import WanConfig
from wanrun.wan.context import fold_padding
from wanrun.wan.load import load_transformer
from wanrun.wan.lora import AdaptedLinear, adapt, transformer_shapes
from wanrun.wan.lora_layout import Layout
from wanrun.wan.model import WanModel
from wanrun.wan.names import canonical, diffusers_name

Adapters = list[tuple[Path, float]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformer under its original names."""
    state = {name: value.detach() for name, value in diffusers_transformer(16, 16, 256).state_dict().items()}
    path = tmp_path_factory.mktemp("base") / "model.safetensors"
    save_file({name: state[stored].contiguous() for name, stored in canonical(state).items()}, str(path))
    return path


def adapted(
    path: Path, adapters: Adapters, dtype: torch.dtype = torch.float32, policy: Policy | None = None
) -> tuple[WanModel, list[Layout]]:
    with open_weights(path) as weights:
        model = load_transformer(weights, "cpu", dtype, policy)
    opened = [(open_weights(file), scale) for file, scale in adapters]
    layouts = adapt(model, opened)
    for weights, _ in opened:
        weights.close()
    return model, layouts


def inputs() -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(5)
    return torch.randn(1, 16, 2, 4, 6, generator=rng), torch.randn(7, 64, generator=rng)


def velocity(model: WanModel) -> Tensor:
    latents, context = inputs()
    found: Tensor = model(latents, torch.tensor([[937.0]]), fold_padding([context]))
    return found


def merged(base: Path, made: list[tuple[Made, float]], folder: Path) -> WanModel:
    """The model with the changes in its weights, computed here."""
    state = load_file(base)
    for each, scale in made:
        for tensor, change in each.changes.items():
            state[tensor] = state[tensor] + scale * change
    save_file(state, str(folder / "merged.safetensors"))
    return adapted(folder / "merged.safetensors", [])[0]


def check_merge(base: Path, made: Made, folder: Path, scale: float = 0.8) -> Layout:
    model, (layout,) = adapted(base, [(made.save(folder / "lora.safetensors"), scale)])
    expected, got = velocity(merged(base, [(made, scale)], folder)), velocity(model)
    assert relative_error(got, expected) <= 1e-5
    assert relative_error(velocity(adapted(base, [])[0]), expected) > 1e-2  # it does something
    return layout


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_equals_merged_weights(base: Path, dialect: str, tmp_path: Path) -> None:
    made = low_rank(load_file(base), [*blocks(BLOCK), *OUTSIDE], DIALECTS[dialect])
    layout = check_merge(base, made, tmp_path)
    assert layout.unmatched == () and layout.note is None
    assert len(layout.pairs) == 2 * len(BLOCK) + len(OUTSIDE)


def test_names_there_and_back() -> None:
    ours = transformer_shapes(WanConfig(256, 512, 2, 16, 16, 64))
    theirs = [diffusers_name(name) for name in ours]
    assert canonical(theirs) == dict(zip(ours, theirs, strict=True))


@pytest.mark.parametrize(
    ("dialect", "layers"), [("native", blocks(BLOCK)), ("no alpha", [*blocks(BLOCK), *OUTSIDE[:-1]])]
)
def test_native_files_equal_what_diffusers_makes_of_them(
    base: Path, dialect: str, layers: list[str], tmp_path: Path
) -> None:
    """Its converter says what goes where, as far as it can, and the products are added to its own module."""
    made = low_rank(load_file(base), layers, DIALECTS[dialect])
    converted = _convert_non_diffusers_wan_lora_to_diffusers(
        {name: value.clone() for name, value in made.keys.items()}
    )
    theirs = diffusers_transformer(16, 16, 256)
    for key, down in converted.items():
        if key.endswith(".lora_A.weight"):
            module = theirs.get_submodule(key.removeprefix("transformer.").removesuffix(".lora_A.weight"))
            module.weight += 0.8 * converted[key.replace("lora_A", "lora_B")] @ down
    model, _ = adapted(base, [(made.save(tmp_path / "lora.safetensors"), 0.8)])
    latents, context = inputs()
    padded = torch.cat([context, context.new_zeros(505, 64)])[None]
    expected = theirs(latents, torch.tensor([937.0]), padded, return_dict=False)[0]
    assert relative_error(velocity(model), expected) <= 1e-5


def test_lightnings_keys(base: Path, tmp_path: Path) -> None:
    """ModelTC/Wan2.2-Lightning: float32, rank 64, alpha of every attention and feed-forward layer."""
    made = low_rank(load_file(base), blocks(BLOCK), DIALECTS["native"], rank=64)
    assert len(made.keys) == 3 * 2 * 10
    assert check_merge(base, made, tmp_path).unmatched == ()


def test_causvids_keys(base: Path, tmp_path: Path) -> None:
    """Kijai's Wan21_CausVid_*: every layer, their biases, the norms, and what is outside the blocks."""
    weights = load_file(base)
    layers = [*blocks(BLOCK), *OUTSIDE, "patch_embedding"]
    made = low_rank(weights, layers, DIALECTS["no alpha"])
    norms = blocks(f"{kind}_attn.norm_{part}" for kind in ("self", "cross") for part in "qk")
    keys = {f"{layer}.bias": f"diffusion_model.{layer}.diff_b" for layer in layers}
    keys |= {f"{norm}.weight": f"diffusion_model.{norm}.diff" for norm in norms}
    for norm in blocks(["norm3"]):
        keys |= {
            f"{norm}.weight": f"diffusion_model.{norm}.diff",
            f"{norm}.bias": f"diffusion_model.{norm}.diff_b",
        }
    keys |= {name: f"diffusion_model.{name}.diff" for name in [*blocks(["modulation"]), "head.modulation"]}
    more = differences(weights, keys)
    made.keys |= more.keys
    for tensor, change in more.changes.items():
        made.add(tensor, change)
    assert check_merge(base, made, tmp_path).unmatched == ()


def test_lightx2vs_keys(base: Path, tmp_path: Path) -> None:
    """ModelTC/LightX2V tools/extract: pairs for matrices, differences for biases, norms and modulation."""
    weights = load_file(base)
    made = low_rank(weights, [*blocks(BLOCK), *OUTSIDE], DIALECTS["native"], rank=8)
    keys = {f"{layer}.bias": f"diffusion_model.{layer}.diff_b" for layer in [*blocks(BLOCK), *OUTSIDE]}
    keys |= {f"{layer}.modulation": f"diffusion_model.{layer}.diff_m" for layer in [*blocks([""]), "head"]}
    keys = {tensor.replace("..", "."): key.replace("..", ".") for tensor, key in keys.items()}
    more = differences(weights, keys)
    made.keys |= more.keys
    made.changes |= more.changes
    layout = check_merge(base, made, tmp_path)
    assert layout.unmatched == () and len(layout.deltas) == len(keys)


def test_full_differences(base: Path, tmp_path: Path) -> None:
    """lightx2v/Wan2.2-Distill-Loras have ``head.head.diff``; others give norms by names of their own."""
    keys = {
        "head.head.weight": "diffusion_model.head.head.diff",
        "blocks.0.ffn.0.weight": "diffusion_model.blocks.0.ffn.0.diff",
        "patch_embedding.weight": "diffusion_model.patch_embedding.diff",
        "blocks.1.norm3.weight": "diffusion_model.blocks.1.norm3.w_norm",
        "blocks.1.norm3.bias": "diffusion_model.blocks.1.norm3.b_norm",
    }
    check_merge(base, differences(load_file(base), keys), tmp_path)


def test_norms_of_diffusers_are_counted_by_use(base: Path, tmp_path: Path) -> None:
    weights = load_file(base)
    made = low_rank(weights, blocks(BLOCK), DIALECTS["diffusers"])
    more = differences(weights, {"blocks.0.norm3.weight": "transformer.blocks.0.norm2.diff"})
    made.keys |= more.keys | {"transformer.blocks.0.norm3.diff": torch.ones(256)}  # has no weights there
    made.add("blocks.0.norm3.weight", more.changes["blocks.0.norm3.weight"])
    assert check_merge(base, made, tmp_path).unmatched == ("transformer.blocks.0.norm3.diff",)


def test_a_bias_of_pefts_second_matrix(base: Path, tmp_path: Path) -> None:
    weights = load_file(base)
    made = low_rank(weights, blocks(BLOCK), DIALECTS["peft"])
    bias = torch.randn(256, generator=torch.Generator().manual_seed(2))
    made.keys["diffusion_model.blocks.0.self_attn.o.lora_B.bias"] = bias
    made.add("blocks.0.self_attn.o.bias", bias)
    check_merge(base, made, tmp_path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64])
def test_an_alpha_of_any_type_and_shape(base: Path, dtype: torch.dtype, tmp_path: Path) -> None:
    made = low_rank(load_file(base), ["blocks.0.ffn.2"], DIALECTS["peft"], rank=8)
    made.keys["diffusion_model.blocks.0.ffn.2.alpha"] = torch.tensor([4], dtype=dtype)
    made.changes["blocks.0.ffn.2.weight"] = made.changes["blocks.0.ffn.2.weight"] * 4 / 8
    check_merge(base, made, tmp_path)


@pytest.mark.parametrize(("root", "factor"), [(False, 6 / 4), (True, 6 / 2)])
def test_alphas_that_diffusers_writes_into_the_metadata(
    base: Path, root: bool, factor: float, tmp_path: Path
) -> None:
    """The file is written by diffusers; one layer has an alpha of its own, another one a key as well."""
    weights = load_file(base)
    layers = ["blocks.0.self_attn.q", "blocks.0.self_attn.k", "blocks.1.ffn.2"]
    made = low_rank(weights, layers, DIALECTS["diffusers bare"])
    config = {"r": 4, "lora_alpha": 6, "alpha_pattern": {"attn1.to_k": 2}, "use_rslora": root}
    WanPipeline.save_lora_weights(
        str(tmp_path), made.keys, weight_name="x.safetensors", transformer_lora_adapter_metadata=config
    )
    other = factor * 2 / 6
    for layer, each in zip(layers, (factor, other, factor), strict=True):
        made.changes[f"{layer}.weight"] = each * made.changes[f"{layer}.weight"]
    model, (layout,) = adapted(base, [(tmp_path / "x.safetensors", 0.8)])
    assert relative_error(velocity(model), velocity(merged(base, [(made, 0.8)], tmp_path))) <= 1e-5
    assert layout.unmatched == ()


@pytest.mark.parametrize(
    "text", ["{", "[]", "7", '{"transformer.lora_alpha": "much"}', '{"transformer.lora_alpha": NaN}',
             '{"transformer.lora_alpha": 1, "transformer.alpha_pattern": [1]}', "[" * 9000]
)  # fmt: skip
def test_metadata_that_is_no_configuration(base: Path, text: str, tmp_path: Path) -> None:
    made = low_rank(load_file(base), ["blocks.0.self_attn.q"], DIALECTS["diffusers"])
    save_file(made.keys, str(tmp_path / "x.safetensors"), {"lora_adapter_metadata": text})
    with pytest.raises(FormatError, match="is no configuration of PEFT"):
        adapted(base, [(tmp_path / "x.safetensors", 1.0)])


def test_several_adapters_at_once(base: Path, tmp_path: Path) -> None:
    weights = load_file(base)
    first = low_rank(weights, blocks(BLOCK), DIALECTS["kohya"])
    second = low_rank(weights, ["blocks.0.ffn.0", "head.head"], DIALECTS["diffusers"], rank=7, seed=3)
    third = differences(weights, {"blocks.0.ffn.0.weight": "blocks.0.ffn.0.diff"})
    files = [each.save(tmp_path / f"{seed}.safetensors") for seed, each in enumerate((first, second, third))]
    scales = [1.0, -0.5, 0.3]
    model, _ = adapted(base, list(zip(files, scales, strict=True)))
    expected = velocity(merged(base, list(zip((first, second, third), scales, strict=True)), tmp_path))
    assert relative_error(velocity(model), expected) <= 1e-5


def test_image_branches_are_passed_over_and_strangers_named(base: Path, tmp_path: Path) -> None:
    made = low_rank(load_file(base), blocks(BLOCK), DIALECTS["native"])
    for part in ("cross_attn.k_img", "cross_attn.v_img"):
        for half in ("lora_down", "lora_up"):
            made.keys[f"diffusion_model.blocks.0.{part}.{half}.weight"] = torch.ones(4, 4)
    made.keys["diffusion_model.img_emb.proj.1.lora_down.weight"] = torch.ones(4, 4)
    made.keys["lora_te_text_model.lora_down.weight"] = torch.ones(4, 4)
    layout = check_merge(base, made, tmp_path)
    assert layout.note == "1 keys (lora_te_text_model.lora_down.weight) match nothing and are left out"


def measured(resident_bytes: int = 0, **rates: float) -> Callable[[], Policy]:
    """A policy for machines of these speeds; each model needs its own, because it counts."""
    speeds = {"resident": 1.0, "per use": 1.0, **rates}
    return lambda: Policy(resident_bytes, lambda kind, dtype: speeds)


KINDS: dict[str, tuple[str, Callable[[], Policy], type[nn.Module]]] = {
    "Q8_0 per use": ("Q8_0", measured(), QuantLinear),
    "Q4_K per use": ("Q4_K", measured(), QuantLinear),
    "Q4_K by ggml": ("Q4_K", measured(ggml=9.0), GgmlLinear),
    "Q4_K resident": ("Q4_K", measured(1 << 30), PackedLinear),
    "int8": ("Q8_0", lambda: Policy(int8=True), Int8Linear),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_layers_gain_the_low_rank_path(
    base: Path, kind: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    """What the layer gives, plus the product; no weight is unpacked or copied."""
    stored, policy, layer = KINDS[kind]
    weights, name = load_file(base), "blocks.1.ffn.0"
    # the last block is never in 8 bits
    weights |= {key.replace("blocks.1", "blocks.2"): weights[key] for key in weights if "blocks.1" in key}
    path = quantised(weights, stored, tmp_path / "model.gguf")
    made = low_rank(weights, [name], DIALECTS["native"])
    more = differences(weights, {f"{name}.weight": f"{name}.diff", f"{name}.bias": f"{name}.diff_b"})
    made.keys |= more.keys
    model, _ = adapted(path, [(made.save(tmp_path / "lora.safetensors"), 0.8)], dtype, policy())
    plain, _ = adapted(path, [], dtype, policy())
    found, before = model.get_submodule(name), plain.get_submodule(name)
    assert isinstance(found, AdaptedLinear) and found.down is not None
    if layer is PackedLinear and not packs(dtype):
        layer = nn.Linear
    assert type(found.base) is type(before) is layer
    tokens = torch.randn(2, 9, 256, generator=torch.Generator().manual_seed(3)).to(dtype)
    change = 0.8 * (made.changes[f"{name}.weight"] + more.changes[f"{name}.weight"])
    expected = before(tokens).float() + tokens.float() @ change.t() + 0.8 * more.changes[f"{name}.bias"]
    got = found(tokens)
    assert (got.dtype, found.down.dtype) == (dtype, dtype)
    assert relative_error(got.float(), expected) <= (1e-5 if dtype == torch.float32 else 1e-2)


def quantised(weights: dict[str, Tensor], kind: str, path: Path) -> Path:
    """The model as a GGUF whose blocks' matrices are ``kind``."""
    tensors = []
    for name, value in weights.items():
        packed = kind if name.startswith("blocks.") and value.ndim == 2 else "F32"
        data = ggml.quantize(packed, value.numpy())
        tensors.append((name, packed, tuple(value.shape), data))
    write_gguf(path, {"general.architecture": "wan"}, tensors)
    return path


NATIVE = "diffusion_model.blocks.0.self_attn.q."


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"lora_up.weight": torch.ones(256, 3)}, r"has shape \(256, 3\), and .* has rank 4"),
        ({"lora_up.weight": None}, "has no other half"),
        ({"lora_down.weight": None}, "has no other half"),
        ({"lora_down.weight": torch.ones(4, 128)}, "make 256 × 128, and blocks.0.self_attn.q is 256 × 256"),
        ({"lora_up.weight": torch.ones(512, 4)}, "make 512 × 256, and blocks.0.self_attn.q is 256 × 256"),
        ({"lora_down.weight": torch.ones(4)}, "are no matrices"),
        (
            {"lora_down.weight": torch.ones(300, 256), "lora_up.weight": torch.ones(256, 300)},
            "has rank 300, and blocks.0.self_attn.q is 256 × 256",
        ),
        (
            {"lora_down.weight": torch.ones(0, 256), "lora_up.weight": torch.ones(256, 0)},
            "has rank 0, and blocks.0.self_attn.q is 256 × 256",
        ),
        ({"alpha": torch.tensor(float("nan"))}, "alpha is nan, not a finite number"),
        ({"alpha": torch.tensor(float("-inf"))}, "alpha is -inf, not a finite number"),
        ({"alpha": torch.ones(2)}, r"must be one number, not \(2,\)"),
        ({"lora_down.weight": torch.full((4, 256), float("nan"))}, "infinite or NaN"),
        ({"alpha": torch.tensor(3e38), "lora_up.weight": torch.full((256, 4), 1e9)}, "infinite or NaN"),
        ({"lora_A.weight": torch.ones(4, 256)}, "changes what .*lora_(down|A).weight changes already"),
        ({"dora_scale": torch.ones(256, 1)}, "only LoRA and plain differences"),
        ({"lokr_w1": torch.ones(4, 4)}, "only LoRA and plain differences"),
        ({"diff": torch.ones(256, 255)}, r"has shape \(256, 255\), and .* \(256, 256\)"),
        ({"diff_b": torch.ones(255)}, r"has shape \(255,\), and .* \(256,\)"),
        ({"lora_up.bias": torch.ones(255)}, r"has shape \(255,\), not \(256,\)"),
    ],
)
def test_hostile_files(base: Path, changes: dict[str, Tensor | None], problem: str, tmp_path: Path) -> None:
    made = low_rank(load_file(base), ["blocks.0.self_attn.q"], DIALECTS["native"])
    for key, value in changes.items():
        if value is None:
            del made.keys[NATIVE + key]
        else:
            made.keys[NATIVE + key] = value
    with pytest.raises(FormatError, match=problem):
        adapted(base, [(made.save(tmp_path / "lora.safetensors"), 1.0)])


def test_files_that_match_nothing_or_no_matrix(base: Path, tmp_path: Path) -> None:
    def refused(keys: dict[str, Tensor]) -> str:
        with pytest.raises(FormatError) as caught:
            adapted(base, [(Made(keys).save(tmp_path / "lora.safetensors"), 1.0)])
        assert len(str(caught.value)) < 1500
        return str(caught.value)

    pair = {"lora_down.weight": torch.ones(4, 256), "lora_up.weight": torch.ones(256, 4)}
    alien = {f"transformer.single_blocks.{block}.{key}": pair[key] for block in range(9) for key in pair}
    assert "changes nothing of this model: 18 keys (transformer.single_blocks.0" in refused(alien)
    deep = {f"diffusion_model.blocks.39.ffn.2.{key}": value for key, value in pair.items()}
    assert "changes nothing" in refused(deep)
    norm = {f"diffusion_model.blocks.0.norm3.{key}": value for key, value in pair.items()}
    assert "blocks.0.norm3 is no matrix" in refused(norm)
    assert "changes nothing" in refused({"x" * 900 + ".lora_down.weight": torch.ones(1)})
    image = {f"blocks.0.cross_attn.k_img.{key}": value for key, value in pair.items()}
    assert "changes nothing" in refused(image)
