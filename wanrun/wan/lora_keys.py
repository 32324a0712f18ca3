"""Reads the keys of LoRA files in every dialect: which of the model's tensors each one changes, and how.

Dialects (diffusers loaders/lora_conversion_utils.py; Wan2.2-Lightning wan/utils/utils.py; ComfyUI
comfy/lora.py; kohya-ss/musubi-tuner networks/lora.py):

    diffusion_model.blocks.0.self_attn.q.lora_down.weight     the model's own names; any prefix, or none
    blocks.0.self_attn.q.lora_A.default.weight                the same in PEFT's words
    transformer.blocks.0.attn1.to_q.lora_A.weight             diffusers' names
    blocks.0.attn1.processor.to_q_lora.down.weight            diffusers' before PEFT
    lora_unet_blocks_0_self_attn_q.lora_down.weight           dots written as underscores
    diffusion_model.blocks.0.ffn.0.diff, .diff_b              differences of a weight and a bias
    diffusion_model.blocks.0.diff_m                           and of the modulation (LightX2V)

Underscored names cannot be read back alone, so a key is looked up among all spellings of the model's names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from wanrun.wan.names import diffusers_name

Part = Literal["down", "up", "up_bias", "alpha", "weight", "modulation", "bias", "strange"]

_DOWN = r"(?:\.lora_down|\.lora_A|\.lora\.down|_lora\.down)"
_UP = r"(?:\.lora_up|\.lora_B|\.lora\.up|_lora\.up)"
_STRANGE = r"lora_mid|dora_scale|lora_magnitude_vector|set_weight|reshape_weight|(?:hada|lokr|b?oft)_\w+"
_PARTS: Mapping[Part, re.Pattern[str]] = {
    # PEFT writes the adapter's own name before the last word
    "down": re.compile(rf"(.+?){_DOWN}(?:\.\w+)?\.weight"),
    "up": re.compile(rf"(.+?){_UP}(?:\.\w+)?\.weight"),
    "up_bias": re.compile(rf"(.+?){_UP}(?:\.\w+)?\.bias"),
    "alpha": re.compile(r"(.+?)(?:[._]lora)?\.alpha"),
    "weight": re.compile(r"(.+?)\.(?:diff|w_norm)"),
    "modulation": re.compile(r"(.+?)\.diff_m"),
    "bias": re.compile(r"(.+?)\.(?:diff_b|b_norm)"),
    "strange": re.compile(rf"(.+?)\.(?:{_STRANGE})(?:\.\w+)*"),
}
_PREFIXES = re.compile(
    r"^(?:(?:base_model|diffusion_model|model|transformer|unet|net|pipe|dit)\."
    r"|(?:lora_unet|lora_transformer|lycoris|diffusion_model)__?)+"
)
#: Longer than any name of a Wan model in any dialect, so that a hostile file costs no time.
_MAX_NAME = 512
#: What LoRAs for image-to-video have for the CLIP image branch, which no model here has.
_IMAGE_BRANCH = re.compile(
    r"(blocks[._]\d+[._](cross_attn[._](k_img|v_img|norm_k_img)|attn2[._](add_[kv]_proj|norm_added_k)))$"
    r"|img_emb[._]|condition_embedder[._]image_embedder[._]"
)


@dataclass(frozen=True, slots=True)
class Key:
    """A key taken apart: ``target`` is spelt as the file spells it, without prefixes."""

    name: str
    target: str
    part: Part

    @property
    def of_image_branch(self) -> bool:
        return _IMAGE_BRANCH.match(self.target) is not None


def split_key(name: str) -> Key | None:
    """The key ``name`` taken apart, None for one that no adapter has."""
    if len(name) > _MAX_NAME:
        return None
    for part, pattern in _PARTS.items():
        if match := pattern.fullmatch(name):
            target = _PREFIXES.sub("", match[1]).replace(".processor.", ".")
            if part == "modulation":
                return Key(name, f"{target}.modulation", "weight")
            return Key(name, f"{target}.0" if target.endswith(".to_out") else target, part)
    return None


def spellings(tensors: Iterable[str]) -> list[dict[str, str]]:
    """The model's modules by every spelling of theirs: in its own names, and in diffusers'.

    ``tensors`` are original names; what is no module's weight or bias, as ``head.modulation``, stands for
    itself. The two are apart because diffusers' ``norm3`` is another norm than ours.
    """
    own: dict[str, str] = {}
    theirs: dict[str, str] = {}
    for tensor in tensors:
        module = re.sub(r"\.(weight|bias)$", "", tensor)
        other = re.sub(r"\.(weight|bias)$", "", diffusers_name(tensor))
        own |= {module: module, module.replace(".", "_"): module}
        theirs |= {other: module, other.replace(".", "_"): module}
    return [own, theirs]
