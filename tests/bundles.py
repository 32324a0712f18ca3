"""Real bundles with random weights, small, made with the libraries that define them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from diffusers import AutoencoderKLWan, WanTransformer3DModel

from tests.text.tiny import CONFIG, reference_encoder, train_vocabulary
from tests.wan.conftest import diffusers_transformer, diffusers_vae, store
from wanrun.convert.umt5 import convert_umt5

MODELFILE = """
DIFFUSION high_noise ./high.safetensors
DIFFUSION low_noise ./low.safetensors
TEXT_ENCODER ./umt5.gguf
VAE ./vae.safetensors
PARAMETER size 32x32
PARAMETER frames 9
PARAMETER fps 8
PARAMETER steps 6
PARAMETER shift 5
PARAMETER guidance_high 4
PARAMETER guidance_low 3
"""


@dataclass(frozen=True, slots=True)
class Parts:
    """A two-expert bundle's files and the modules that they were made from."""

    folder: Path
    high: WanTransformer3DModel
    low: WanTransformer3DModel
    vae: AutoencoderKLWan

    @property
    def modelfile(self) -> Path:
        return self.folder / "Modelfile"


def make_parts(folder: Path) -> Parts:
    """Write the bundle's files and its Modelfile into ``folder``."""
    high = diffusers_transformer(16, 16, 256, text_dim=CONFIG.d_model)
    low = diffusers_transformer(16, 16, 256, text_dim=CONFIG.d_model)
    for index, parameter in enumerate(low.parameters()):
        parameter.data.mul_(1 + 0.1 * (index % 3 - 1))
    vae = diffusers_vae("2.1")
    store(high, folder / "high.safetensors", "original")
    store(low, folder / "low.safetensors", "diffusers")
    store(vae, folder / "vae.safetensors", "original")
    convert_umt5(
        reference_encoder().state_dict(), CONFIG, train_vocabulary("nmt_nfkc"), folder / "umt5.gguf", "F32"
    )
    (folder / "Modelfile").write_text(MODELFILE)
    return Parts(folder, high, low, vae)
