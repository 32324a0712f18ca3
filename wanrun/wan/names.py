"""Tensor names of every dialect, mapped to the original checkpoints' names.

Original (Wan-Video), Comfy-repackaged (a prefix before the original) and diffusers
(src/diffusers/loaders/single_file_utils.py, scripts/convert_wan_to_diffusers.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_PREFIXES = ("model.diffusion_model.", "diffusion_model.", "model.", "net.", "vae.", "first_stage_model.")

_DIT = (
    (r"condition_embedder\.time_embedder\.linear_1\.", "time_embedding.0."),
    (r"condition_embedder\.time_embedder\.linear_2\.", "time_embedding.2."),
    (r"condition_embedder\.text_embedder\.linear_1\.", "text_embedding.0."),
    (r"condition_embedder\.text_embedder\.linear_2\.", "text_embedding.2."),
    (r"condition_embedder\.time_proj\.", "time_projection.1."),
    (r"scale_shift_table$", "head.modulation"),
    (r"proj_out\.", "head.head."),
    (r"(blocks\.\d+)\.scale_shift_table$", r"\1.modulation"),
    (r"(blocks\.\d+)\.attn1\.", r"\1.self_attn."),
    (r"(blocks\.\d+)\.attn2\.", r"\1.cross_attn."),
    (r"(blocks\.\d+\.\w+_attn)\.to_([qkv])\.", r"\1.\2."),
    (r"(blocks\.\d+\.\w+_attn)\.to_out\.0\.", r"\1.o."),
    (r"(blocks\.\d+)\.norm2\.", r"\1.norm3."),  # theirs are numbered by use; ours by the original
    (r"(blocks\.\d+)\.ffn\.net\.0\.proj\.", r"\1.ffn.0."),
    (r"(blocks\.\d+)\.ffn\.net\.2\.", r"\1.ffn.2."),
)

#: The other way; tests hold the two against each other.
_TO_DIFFUSERS = (
    (r"time_embedding\.0\.", "condition_embedder.time_embedder.linear_1."),
    (r"time_embedding\.2\.", "condition_embedder.time_embedder.linear_2."),
    (r"text_embedding\.0\.", "condition_embedder.text_embedder.linear_1."),
    (r"text_embedding\.2\.", "condition_embedder.text_embedder.linear_2."),
    (r"time_projection\.1\.", "condition_embedder.time_proj."),
    (r"head\.modulation$", "scale_shift_table"),
    (r"head\.head\.", "proj_out."),
    (r"(blocks\.\d+)\.modulation$", r"\1.scale_shift_table"),
    (r"(blocks\.\d+)\.self_attn\.", r"\1.attn1."),
    (r"(blocks\.\d+)\.cross_attn\.", r"\1.attn2."),
    (r"(blocks\.\d+\.attn[12])\.([qkv])\.", r"\1.to_\2."),
    (r"(blocks\.\d+\.attn[12])\.o\.", r"\1.to_out.0."),
    (r"(blocks\.\d+)\.norm3\.", r"\1.norm2."),
    (r"(blocks\.\d+)\.ffn\.0\.", r"\1.ffn.net.0.proj."),
    (r"(blocks\.\d+)\.ffn\.2\.", r"\1.ffn.net.2."),
)

_RESNET = (
    (r"(.*)\.norm1\.gamma$", r"\1.residual.0.gamma"),
    (r"(.*)\.conv1\.(weight|bias)$", r"\1.residual.2.\2"),
    (r"(.*)\.norm2\.gamma$", r"\1.residual.3.gamma"),
    (r"(.*)\.conv2\.(weight|bias)$", r"\1.residual.6.\2"),
    (r"(.*)\.conv_shortcut\.", r"\1.shortcut."),
)
_VAE_ENDS = (
    (r"quant_conv\.", "conv1."),
    (r"post_quant_conv\.", "conv2."),
    (r"(encoder|decoder)\.conv_in\.", r"\1.conv1."),
    (r"(encoder|decoder)\.norm_out\.", r"\1.head.0."),
    (r"(encoder|decoder)\.conv_out\.", r"\1.head.2."),
    (r"(encoder|decoder)\.mid_block\.attentions\.0\.", r"\1.middle.1."),
)


def canonical(names: Iterable[str]) -> dict[str, str]:
    """Original name -> stored name, for a transformer's or a VAE's tensors; unknown names are kept."""
    stored = list(names)
    prefix = _common_prefix(stored)
    found: dict[str, str] = {}
    plain = {name.removeprefix(prefix): name for name in stored}
    for name, full in plain.items():
        found[_original(name, plain)] = full
    return found


def diffusers_name(name: str) -> str:
    """What diffusers calls the transformer's tensor whose original name is ``name``."""
    return _rewrite(name, _TO_DIFFUSERS, every=True)


def _common_prefix(names: list[str]) -> str:
    """The wrapper's prefix, if every name carries it."""
    for prefix in _PREFIXES:
        if names and all(name.startswith(prefix) for name in names):
            return prefix
    return ""


def _original(name: str, plain: dict[str, str]) -> str:
    if "quant_conv.weight" in plain:
        return _original_vae(name, nested="decoder.up_blocks.0.upsampler.resample.1.weight" in plain)
    if "condition_embedder.time_proj.weight" in plain:
        return _rewrite(name, _DIT, every=True)
    return name


def _rewrite(name: str, rules: tuple[tuple[str, str], ...], every: bool = False) -> str:
    for pattern, replacement in rules:
        name, count = re.subn("^" + pattern, replacement, name)
        if count and not every:
            return name
    return name


def _original_vae(name: str, nested: bool) -> str:
    """``nested`` is version 2.2, whose stages are modules; version 2.1 numbers all layers in one list."""
    half, _, rest = name.partition(".")
    if match := re.match(r"mid_block\.resnets\.(\d)\.(.*)", rest):
        return _rewrite(f"{half}.middle.{2 * int(match[1])}.{match[2]}", _RESNET)
    if match := re.match(r"(down|up)_blocks\.(\d+)\.(.*)", rest):
        return _stage(half, match[1], int(match[2]), match[3], nested)
    return _rewrite(name, _VAE_ENDS)


def _stage(half: str, way: str, stage: int, rest: str, nested: bool) -> str:
    layers = f"{half}.{way}samples"
    if way == "down" and not nested:
        return _rewrite(f"{layers}.{stage}.{rest}", _RESNET)
    # a decoder stage has three blocks before its resampling, a 2.2 encoder stage two
    blocks = 3 if way == "up" else 2
    base = f"{layers}.{stage}.{way}samples." if nested else f"{layers}."
    offset = 0 if nested else stage * (blocks + 1)
    if match := re.match(r"resnets\.(\d)\.(.*)", rest):
        return _rewrite(f"{base}{offset + int(match[1])}.{match[2]}", _RESNET)
    tail = re.sub(r"^(downsampler|upsampler|upsamplers\.0)\.", "", rest)
    return f"{base}{offset + blocks}.{tail}"
