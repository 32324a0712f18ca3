"""Small model files with names and ranks of real ones, written by the safetensors and gguf packages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import save_file

Shapes = dict[str, tuple[int, ...]]


def save(path: Path, shapes: Mapping[str, tuple[int, ...]], value: float = 0.0) -> Path:
    """A safetensors file of ``shapes`` filled with ``value``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: np.full(shape, value, np.float16) for name, shape in shapes.items()}, path)
    return path


def transformer(
    width: int = 128, inputs: int = 16, latents: int = 16, text: int = 64, layers: int = 2
) -> Shapes:
    """A Wan diffusion transformer under its original names (Wan-Video/Wan2.2, wan/modules/model.py)."""
    ffn = 2 * width
    shapes: Shapes = {
        "patch_embedding.weight": (width, inputs, 1, 2, 2),
        "patch_embedding.bias": (width,),
        "text_embedding.0.weight": (width, text),
        "text_embedding.2.weight": (width, width),
        "time_embedding.0.weight": (width, 256),
        "time_projection.1.weight": (6 * width, width),
        "head.modulation": (1, 2, width),
        "head.head.weight": (4 * latents, width),
    }
    for layer in range(layers):
        shapes[f"blocks.{layer}.modulation"] = (1, 6, width)
        shapes[f"blocks.{layer}.self_attn.norm_q.weight"] = (width,)
        shapes[f"blocks.{layer}.self_attn.q.weight"] = (width, width)
        shapes[f"blocks.{layer}.ffn.0.weight"] = (ffn, width)
        shapes[f"blocks.{layer}.ffn.2.weight"] = (width, ffn)
    return shapes


def lora(width: int = 128, layers: int = 2, rank: int = 4) -> Shapes:
    """A LoRA of a transformer of that width, as ModelTC/Wan2.2-Lightning names its tensors."""
    shapes: Shapes = {}
    sizes = {"self_attn.q": (width, width), "ffn.0": (2 * width, width), "ffn.2": (width, 2 * width)}
    for layer in range(layers):
        for part, (out, inputs) in sizes.items():
            name = f"diffusion_model.blocks.{layer}.{part}"
            shapes[f"{name}.lora_down.weight"] = (rank, inputs)
            shapes[f"{name}.lora_up.weight"] = (out, rank)
            shapes[f"{name}.alpha"] = ()
    return shapes


def save_adapters(folder: Path) -> str:
    """A LoRA for each expert and one for both, and the lines that name them."""
    save(folder / "lightning_high.safetensors", lora(), 0.1)
    save(folder / "lightning_low.safetensors", lora(), 0.2)
    save(folder / "style.safetensors", lora(rank=2), 0.3)
    return ADAPTERS


ADAPTERS = """
ADAPTER high_noise lightning_high.safetensors 1
ADAPTER low_noise ./lightning_low.safetensors 0.75
ADAPTER style.safetensors -.5
"""


def autoencoder(latents: int = 16, pixels: int = 3, width: int = 8) -> Shapes:
    """The ends of a Wan VAE: 3 output channels are Wan2.1's, 12 are Wan2.2's."""
    return {
        "encoder.conv1.weight": (width, pixels, 3, 3, 3),
        "conv1.weight": (2 * latents, 2 * latents, 1, 1, 1),
        "conv2.weight": (latents, latents, 1, 1, 1),
        "decoder.conv1.weight": (4 * width, latents, 3, 3, 3),
        "decoder.head.2.weight": (pixels, width, 3, 3, 3),
    }


def tiny_decoder(latents: int = 16, pixels: int = 3) -> Shapes:
    """The ends of a TAEHV decoder (madebyollin/taehv, taehv.py)."""
    return {"decoder.1.weight": (32, latents, 3, 3), "decoder.22.weight": (pixels, 8, 3, 3)}


def save_encoder(path: Path, width: int = 64, layers: int = 2, *, umt5: bool = True) -> Path:
    """A T5 encoder as llama.cpp names it; a T5 that is not UMT5 has one position bias for all layers."""
    writer = gguf.GGUFWriter(path, "t5encoder")
    names = gguf.TENSOR_NAMES

    def add(kind: gguf.MODEL_TENSOR, shape: tuple[int, ...], layer: int | None = None) -> None:
        name = names[kind] if layer is None else names[kind].format(bid=layer)
        writer.add_tensor(f"{name}.weight", np.zeros(shape, np.float32))

    add(gguf.MODEL_TENSOR.TOKEN_EMBD, (32, width))
    for layer in range(layers):
        if umt5 or layer == 0:
            add(gguf.MODEL_TENSOR.ENC_ATTN_REL_B, (32, 4), layer)
        add(gguf.MODEL_TENSOR.ENC_ATTN_Q, (4 * 16, width), layer)
        add(gguf.MODEL_TENSOR.ENC_FFN_UP, (96, width), layer)
    add(gguf.MODEL_TENSOR.ENC_OUTPUT_NORM, (width,))
    return _finish(writer, path)


def save_language_model(path: Path) -> Path:
    """What an expander is: a language model of another architecture."""
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_tensor("token_embd.weight", np.zeros((32, 32), np.float32))
    return _finish(writer, path)


def save_parts(folder: Path) -> Path:
    """Every file of a bundle of two experts, and ``Modelfile`` that names them."""
    save(folder / "wan-high_noise.safetensors", transformer(), 1.0)
    save(folder / "wan-low_noise.safetensors", transformer(), 2.0)
    save(folder / "vae.safetensors", autoencoder())
    save(folder / "tae.safetensors", tiny_decoder())
    save_encoder(folder / "umt5.gguf")
    (folder / "Modelfile").write_text(MODELFILE, encoding="utf-8")
    return folder


MODELFILE = '''# Two experts
DIFFUSION high_noise wan-high_noise.safetensors
DIFFUSION low_noise  ./wan-low_noise.safetensors
TEXT_ENCODER umt5.gguf
VAE vae.safetensors
PREVIEW tae.safetensors
PARAMETER steps 12
PARAMETER size 64x48
TEMPLATE """{{ prompt }}, cinematic"""
NEGATIVE "blurred"
LICENSE """Apache-2.0
See the file."""
'''


def _finish(writer: gguf.GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
