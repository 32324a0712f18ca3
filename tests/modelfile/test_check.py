"""Pairs that cannot work are refused, all at once, with the reason."""

from __future__ import annotations

import os
from pathlib import Path

import gguf
import pytest

from tests.modelfile.files import (
    autoencoder,
    save,
    save_encoder,
    save_language_model,
    save_parts,
    tiny_decoder,
    transformer,
)
from wanrun.errors import InvalidRequest
from wanrun.modelfile.check import Candidate, check

FILES = {
    "high_noise": "wan-high_noise.safetensors",
    "low_noise": "wan-low_noise.safetensors",
    "text_encoder": "umt5.gguf",
    "vae": "vae.safetensors",
    "preview": "tae.safetensors",
}


def refusal(folder: Path, **changes: str | None) -> list[str]:
    """The problems of the sound bundle in ``folder`` after giving roles other files, or none."""
    files = {role: name for role, name in {**FILES, **changes}.items() if name is not None}
    try:
        check({role: Candidate(role, folder / name, name) for role, name in files.items()})
    except InvalidRequest as error:
        return str(error).splitlines()
    return []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_parts(tmp_path)


def test_sound_bundles(folder: Path) -> None:
    assert refusal(folder) == []
    save_language_model(folder / "qwen.gguf")
    assert refusal(folder, preview=None, expander="qwen.gguf") == []
    dense = {"high_noise": None, "low_noise": None, "diffusion": "wan-low_noise.safetensors"}
    assert refusal(folder, **dense) == []


def test_experts_are_swapped(folder: Path) -> None:
    problems = refusal(folder, high_noise=FILES["low_noise"], low_noise=FILES["high_noise"])
    assert len(problems) == 2
    assert "by its name this is the low_noise expert" in problems[0]
    assert "by its name this is the high_noise expert" in problems[1]


@pytest.mark.parametrize("link", [False, True])
def test_one_file_as_both_experts(folder: Path, link: bool) -> None:
    save(folder / "one.safetensors", transformer())
    if link:
        os.link(folder / "one.safetensors", folder / "two.safetensors")
    other = "two.safetensors" if link else "one.safetensors"
    assert refusal(folder, high_noise="one.safetensors", low_noise=other) == [
        "one.safetensors is given as both experts: a model has one file for each"
    ]


@pytest.mark.parametrize(
    ("shapes", "problem"),
    [
        (transformer(width=256), "width 128 in high_noise, 256 in low_noise"),
        (transformer(layers=3), "layers 2 in high_noise, 3 in low_noise"),
        (transformer(inputs=36), "in_channels 16 in high_noise, 36 in low_noise"),
        (transformer(text=32), "text_width 64 in high_noise, 32 in low_noise"),
    ],
)
def test_experts_of_different_models(folder: Path, shapes: dict[str, tuple[int, ...]], problem: str) -> None:
    save(folder / "other.safetensors", shapes)
    assert f"the experts differ: {problem}" in refusal(folder, low_noise="other.safetensors")


def test_latent_channels(folder: Path) -> None:
    save(folder / "vae22.safetensors", autoencoder(48, 12))
    save(folder / "tae22.safetensors", tiny_decoder(48, 12))
    assert refusal(folder, vae="vae22.safetensors", preview="tae22.safetensors") == [
        "vae: wan vae 2.2 decodes 48 latent channels, and the model makes 16 "
        "(the Wan2.1 VAE has 16, the Wan2.2 VAE 48)",
        "preview: taew2.2 decodes 48 latent channels, and the model makes 16 (taew2_1 has 16, taew2_2 48)",
    ]
    save(folder / "5b.safetensors", transformer(inputs=48, latents=48))
    dense = {"high_noise": None, "low_noise": None, "diffusion": "5b.safetensors"}
    assert len(refusal(folder, **dense)) == 2
    assert refusal(folder, **dense, vae="vae22.safetensors", preview="tae22.safetensors") == []


def test_text_encoders(folder: Path) -> None:
    save_encoder(folder / "wide.gguf", width=128)
    assert refusal(folder, text_encoder="wide.gguf") == [
        "text_encoder: its rows are 128 wide, and the model reads 64"
    ]
    save_encoder(folder / "t5.gguf", umt5=False)
    (problem,) = refusal(folder, text_encoder="t5.gguf")
    assert "t5.gguf: it is a T5 that is not UMT5" in problem
    names = {"shared.weight": (32, 64), "encoder.block.0.layer.0.SelfAttention.q.weight": (64, 64)}
    names["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"] = (32, 4)
    save(folder / "umt5.safetensors", names)
    (problem,) = refusal(folder, text_encoder="umt5.safetensors")
    assert "must be a GGUF" in problem


def test_files_in_the_wrong_place(folder: Path) -> None:
    save(folder / "lora.safetensors", {"blocks.0.ffn.0.lora_down.weight": (4, 4)})
    assert refusal(
        folder,
        high_noise="vae.safetensors",
        low_noise="lora.safetensors",
        text_encoder="tae.safetensors",
        vae="umt5.gguf",
        preview="wan-low_noise.safetensors",
        expander="umt5.gguf",
    ) == [
        "high_noise: vae.safetensors: this is a VAE, not a diffusion model",
        "low_noise: lora.safetensors: this is an adapter (LoRA), not a diffusion model",
        "text_encoder: tae.safetensors: this is a tiny decoder, not a text encoder",
        "vae: umt5.gguf: this is a text encoder, not a VAE",
        "preview: wan-low_noise.safetensors: this is a diffusion model, not a tiny decoder",
        "expander: umt5.gguf: an expander is a language model in GGUF, and this is not",
    ]


def test_damaged_and_missing_files(folder: Path) -> None:
    (folder / "vae.safetensors").write_bytes(b"PK\x03\x04" + b"\0" * 100)
    (folder / "umt5.gguf").write_bytes(b"GGUF")
    problems = refusal(folder, high_noise=None, preview="nowhere.safetensors")
    assert [problem.partition(":")[0] for problem in problems] == [
        "text_encoder",
        "vae",
        "preview",
        "low_noise alone",
    ]


def test_incomplete(folder: Path) -> None:
    everything = dict.fromkeys(FILES)
    assert [problem.split()[0] for problem in refusal(folder, **everything)] == [
        "DIFFUSION",
        "TEXT_ENCODER",
        "VAE",
    ]


def test_missing_five_dimensional_tensor(folder: Path) -> None:
    shapes = transformer()
    del shapes["patch_embedding.weight"]
    save(folder / "unfixed.safetensors", shapes)
    (problem,) = refusal(folder, high_noise=None, low_noise=None, diffusion="unfixed.safetensors")
    assert problem.startswith("diffusion: unfixed.safetensors: patch_embedding.weight is missing")


def test_files_of_the_gguf_package_are_read(folder: Path) -> None:
    assert gguf.GGUFReader(folder / "umt5.gguf").tensors[0].name == "token_embd.weight"
