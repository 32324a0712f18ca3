"""What a file is, from headers whose names and shapes come from diffusers, transformers and gguf."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
from transformers import T5Config, T5EncoderModel, UMT5Config, UMT5EncoderModel

from tests.modelfile.files import (
    autoencoder,
    save,
    save_encoder,
    save_language_model,
    tiny_decoder,
    transformer,
)
from wanrun.gguf.header import read_header
from wanrun.wan.detect import Identity, expert_hint, identify

#: As diffusers' own conversion script configures them (scripts/convert_wan_to_diffusers.py).
PUBLISHED: dict[str, dict[str, Any]] = {
    "wan2.1-t2v-1.3b": {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30},
    "wan2.2-t2v-a14b or wan2.1-t2v-14b": {},
    "wan2.2-i2v-a14b": {"in_channels": 36},
    "wan2.2-ti2v-5b": {
        "num_attention_heads": 24,
        "ffn_dim": 14336,
        "num_layers": 30,
        "in_channels": 48,
        "out_channels": 48,
    },
    "wan2.1-i2v-14b": {"in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120},
}


def state(model: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def sparse(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Path:
    """A safetensors file of the full size that takes no room on the disk."""
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
    data = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(data).to_bytes(8, "little") + data)
        file.truncate(8 + len(data) + end)
    return path


def what(path: Path) -> Identity:
    return identify(read_header(path))


@pytest.mark.parametrize("variant", PUBLISHED)
def test_published_transformers(tmp_path: Path, variant: str) -> None:
    with torch.device("meta"):
        model = WanTransformer3DModel(**PUBLISHED[variant])
    config = model.config
    identity = what(sparse(tmp_path / "model.safetensors", state(model)))
    assert identity == Identity(
        "diffusion",
        variant,
        "diffusers",
        latent_channels=config.out_channels,
        in_channels=config.in_channels,
        text_width=4096,
        width=config.num_attention_heads * 128,
        layers=config.num_layers,
        heads=config.num_attention_heads,
        ffn=config.ffn_dim,
        problem=identity.problem,
    )
    assert ("CLIP" in identity.problem) if identity.problem else variant != "wan2.1-i2v-14b"


def test_our_fixture_has_the_original_names() -> None:
    """The names that the other tests use are those that diffusers converts from."""
    shapes = transformer(width=128, text=64, layers=2)
    converted = convert_wan_transformer_to_diffusers({name: torch.zeros(s) for name, s in shapes.items()})
    model = WanTransformer3DModel(num_attention_heads=1, ffn_dim=256, num_layers=2, text_dim=64)
    theirs = state(model)
    assert {name: tuple(tensor.shape) for name, tensor in converted.items()}.items() <= theirs.items()


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "diffusion_model.", "model.", "net."])
def test_original_names_and_prefixes(tmp_path: Path, prefix: str) -> None:
    shapes = {prefix + name: shape for name, shape in transformer(width=256, text=64, layers=3).items()}
    identity = what(save(tmp_path / "toy-HighNoise-Q8_0.safetensors", shapes))
    assert identity == Identity(
        "diffusion", "wan (custom)", "original", 16, 16, 64, 256, 3, 2, 512, expert="high_noise"
    )


def test_gguf_with_five_dimensions(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "wan")
    writer.add_name("Wan2.2 T2V A14B LowNoise")
    for name, shape in transformer().items():
        if name == "blocks.0.ffn.0.weight":
            packed = gguf.quantize(np.zeros(shape, np.float32), gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(name, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(name, np.zeros(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    identity = what(tmp_path / "a.gguf")
    assert identity == Identity(
        "diffusion", "wan (custom)", "original", 16, 16, 64, 128, 2, 1, 256, expert="low_noise"
    )


def test_missing_patch_embedding_is_explained(tmp_path: Path) -> None:
    shapes = transformer()
    del shapes["patch_embedding.weight"]
    identity = what(save(tmp_path / "a.safetensors", shapes))
    assert (identity.kind, identity.in_channels) == ("diffusion", None)
    assert identity.problem is not None
    assert "fix_5d_tensors.py" in identity.problem


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("vace_blocks.0.after_proj.weight", "wan vace"),
        ("img_emb.emb_pos", "wan2.1-flf2v-14b"),
        ("img_emb.proj.0.bias", "wan2.1-i2v-14b"),
        ("control_adapter.conv.weight", "wan fun-camera"),
        ("casual_audio_encoder.weights", "wan s2v"),
    ],
)
def test_relatives_that_cannot_run(tmp_path: Path, name: str, variant: str) -> None:
    identity = what(save(tmp_path / "a.safetensors", transformer() | {name: (1,)}))
    assert (identity.kind, identity.variant) == ("diffusion", variant)
    assert identity.problem is not None
    assert "cannot run" in identity.problem


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"head.head.weight": (64, 200), "head.modulation": (1, 2, 200)}, "multiple of the head size 128"),
        ({"head.head.weight": (64,)}, "other ranks"),
        ({"patch_embedding.weight": (128, 64)}, "other ranks"),
        ({"text_embedding.0.weight": (1, 128, 64)}, "other ranks"),
    ],
)
def test_wrong_shapes(tmp_path: Path, changed: dict[str, tuple[int, ...]], problem: str) -> None:
    identity = what(save(tmp_path / "a.safetensors", transformer() | changed))
    assert identity.problem is not None
    assert problem in identity.problem


def test_autoencoders_of_diffusers(tmp_path: Path) -> None:
    small = AutoencoderKLWan(base_dim=8, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
    identity = what(sparse(tmp_path / "a.safetensors", state(small)))
    assert identity == Identity("vae", "wan vae 2.1", "diffusers", latent_channels=16, width=8)
    with torch.device("meta"):
        large = AutoencoderKLWan(
            base_dim=160,
            decoder_base_dim=256,
            z_dim=48,
            in_channels=12,
            out_channels=12,
            is_residual=True,
            patch_size=2,
        )
    identity = what(sparse(tmp_path / "b.safetensors", state(large)))
    assert identity == Identity("vae", "wan vae 2.2", "diffusers", latent_channels=48, width=256)


def test_other_decoders(tmp_path: Path) -> None:
    assert what(save(tmp_path / "a.safetensors", autoencoder())) == Identity(
        "vae", "wan vae 2.1", "original", latent_channels=16, width=8
    )
    assert what(save(tmp_path / "b.safetensors", autoencoder(48, 12))).variant == "wan vae 2.2"
    assert what(save(tmp_path / "c.safetensors", tiny_decoder())).variant == "taew2.1"
    assert what(save(tmp_path / "d.safetensors", tiny_decoder(48, 12))) == Identity(
        "tiny", "taew2.2", "original", latent_channels=48, width=8
    )
    image = {"decoder.conv_in.weight": (512, 4, 3, 3), "decoder.conv_out.weight": (3, 128, 3, 3)}
    assert what(save(tmp_path / "e.safetensors", image)).kind == "unknown"


def test_text_encoders(tmp_path: Path) -> None:
    umt5 = UMT5EncoderModel(
        UMT5Config(vocab_size=32, d_model=64, d_kv=16, d_ff=96, num_layers=3, num_heads=4)
    )
    expected = Identity("text_encoder", "umt5 (custom)", "transformers", width=64, layers=3, heads=4, ffn=96)
    assert what(sparse(tmp_path / "a.safetensors", state(umt5))) == expected
    t5 = T5EncoderModel(
        T5Config(
            vocab_size=32,
            d_model=64,
            d_kv=16,
            d_ff=96,
            num_layers=3,
            num_heads=4,
            feed_forward_proj="gated-gelu",
        )
    )
    identity = what(sparse(tmp_path / "b.safetensors", state(t5)))
    assert (identity.variant, identity.width) == ("t5", 64)
    assert identity.problem is not None
    assert "not UMT5" in identity.problem
    identity = what(save_encoder(tmp_path / "c.gguf"))
    assert identity == Identity(
        "text_encoder", "umt5 (custom)", "llama.cpp", width=64, layers=2, heads=4, ffn=96
    )
    assert what(save_encoder(tmp_path / "d.gguf", umt5=False)).variant == "t5"
    original = {"token_embedding.weight": (256_384, 4096)}
    for layer in range(24):
        original[f"blocks.{layer}.pos_embedding.embedding.weight"] = (32, 64)
        original[f"blocks.{layer}.attn.q.weight"] = (4096, 4096)
        original[f"blocks.{layer}.ffn.fc1.weight"] = (10240, 4096)
    identity = what(sparse(tmp_path / "e.safetensors", original))
    assert identity == Identity(
        "text_encoder", "umt5-xxl", "original", width=4096, layers=24, heads=64, ffn=10240
    )


@pytest.mark.parametrize(
    "name",
    [
        "diffusion_model.blocks.0.self_attn.q.lora_down.weight",
        "blocks.0.ffn.0.lora_A.weight",
        "transformer.blocks.0.attn1.to_q.lora_B.default.weight",
        "lora_unet_blocks_0_self_attn_q.alpha",
        "diffusion_model.head.head.diff_b",
        "transformer.blocks.0.attn1.processor.to_q_lora.down.weight",
        "unet.blocks.0.attn1.to_q.lora.up.weight",
        "diffusion_model.blocks.0.diff_m",
    ],
)
def test_adapters(tmp_path: Path, name: str) -> None:
    identity = what(save(tmp_path / "wan2.2_lightx2v_high_noise.safetensors", {name: (4, 4)}))
    assert (identity.kind, identity.expert) == ("adapter", "high_noise")


def test_what_is_none_of_ours(tmp_path: Path) -> None:
    assert what(save_language_model(tmp_path / "a.gguf")) == Identity("unknown", "qwen2")
    assert what(save(tmp_path / "b.safetensors", {"model.layers.0.weight": (1,)})) == Identity(
        "unknown", "unknown"
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Wan2.2-T2V-A14B-HighNoise-Q4_K_M.gguf", "high_noise"),
        ("wan2.2_t2v_low_noise_14B_fp8_scaled.safetensors", "low_noise"),
        ("Wan2.2-T2V-A14B-4steps-lora-HIGH-fp16.safetensors", "high_noise"),
        ("LowNoise.gguf", "low_noise"),
        ("wan-slow-highway-flowers.gguf", None),
        ("wan_high_and_low_noise.gguf", None),
        ("umt5.gguf", None),
    ],
)
def test_expert_hints(name: str, hint: str | None) -> None:
    assert expert_hint(name) == hint


def test_the_folder_tells_the_expert(tmp_path: Path) -> None:
    assert what(save(tmp_path / "HighNoise" / "model.safetensors", transformer())).expert == "high_noise"
    assert what(save(tmp_path / "plain" / "model.safetensors", transformer())).expert is None
