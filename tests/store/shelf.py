"""A Hub on this machine with small files in the repositories that the shipped library names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gguf
import numpy as np
import pytest

from tests.modelfile.files import autoencoder, save, save_encoder, tiny_decoder, transformer
from tests.sources.hub_server import Hub, hub

GGUF = "samuelchristlie/Wan2.1-T2V-1.3B-GGUF"
PAIR = "QuantStack/Wan2.2-T2V-A14B-GGUF"
ENCODER, VAE = "city96/umt5-xxl-encoder-gguf", "Comfy-Org/Wan_2.2_ComfyUI_Repackaged"


@contextmanager
def library_hub(folder: Path) -> Iterator[Hub]:
    """The Hub until the end of the block, for this process and its children; ``folder`` is for its files."""
    folder.mkdir()
    encoder = save_encoder(folder / "umt5.gguf").read_bytes()
    vae = save(folder / "vae.safetensors", autoencoder()).read_bytes()
    tiny = save(folder / "tiny.safetensors", tiny_decoder()).read_bytes()
    model = real_sized(folder / "model.gguf").read_bytes()
    experts = {}
    for value, side in enumerate(("HighNoise", "LowNoise"), 1):
        data = save(folder / f"{side}.safetensors", transformer(), value).read_bytes()
        for quant in ("Q4_K_M", "Q8_0"):
            experts[f"{side}/Wan2.2-T2V-A14B-{side}-{quant}.gguf"] = data
    with hub() as served, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", served.site.url)
        patch.setenv("HF_TOKEN", served.token)
        served.add(ENCODER, {"umt5-xxl-encoder-Q5_K_M.gguf": encoder})
        served.add(VAE, {"split_files/vae/wan_2.1_vae.safetensors": vae})
        served.add("Kijai/WanVideo_comfy", {"taew2_1.safetensors": tiny, "other.safetensors": b"x" * 999})
        served.add(GGUF, {"Wan2.1-T2V-1.3B-Q8_0.gguf": model, "Wan2.1-T2V-1.3B-Q4_0.gguf": model})
        served.add(PAIR, experts | {"README.md": b"words", "VAE/Wan2.1_VAE.safetensors": vae})
        yield served


def real_sized(path: Path) -> Path:
    """A GGUF with the dimensions of Wan2.1 T2V 1.3B, its large matrix in the smallest type that there is."""
    writer = gguf.GGUFWriter(path, "wan")
    shapes = {
        "patch_embedding.weight": (1536, 16, 1, 2, 2),
        "text_embedding.0.weight": (8, 64),
        "text_embedding.2.weight": (8, 8),
        "head.modulation": (1, 2, 8),
        "head.head.weight": (64, 1536),
        **{f"blocks.{layer}.modulation": (1, 6, 8) for layer in range(30)},
    }
    for name, shape in shapes.items():
        writer.add_tensor(name, np.ones(shape, np.float16))
    packed = np.zeros((8960, 1536 // 256 * 50), np.uint8)
    kind = gguf.GGMLQuantizationType.IQ1_S
    writer.add_tensor("blocks.0.ffn.0.weight", packed, raw_shape=packed.shape, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
