"""Says what a model file is from the names and shapes of its tensors, without loading any.

Names are those of the original checkpoints (Wan-Video/Wan2.2, wan/modules; GGUF files and the ComfyUI
repackaging carry the same), of diffusers (models/transformers/transformer_wan.py and
models/autoencoders/autoencoder_kl_wan.py), of llama.cpp and transformers (UMT5), and of madebyollin/taehv.
Dimensions are read, not assumed, so a Wan of any width is recognised. The two experts of a Wan2.2 model have
the same shapes: only names tell them apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from wanrun.gguf.header import Header, TensorInfo

Kind = Literal["diffusion", "vae", "tiny", "text_encoder", "adapter", "unknown"]

#: The metadata in which 'wanrun convert' notes which expert a file is.
ROLE = "wanrun.role"
HEAD_DIM = 128
PATCH_VOLUME = 4

_PREFIXES = ("", "model.diffusion_model.", "diffusion_model.", "model.", "net.", "first_stage_model.", "vae.")
#: (width, layers, feed-forward width, input channels, latent channels) of the published models.
_VARIANTS: Mapping[tuple[int | None, ...], str] = {
    (1536, 30, 8960, 16, 16): "wan2.1-t2v-1.3b",
    (5120, 40, 13824, 16, 16): "wan2.2-t2v-a14b or wan2.1-t2v-14b",
    (5120, 40, 13824, 36, 16): "wan2.2-i2v-a14b",
    (3072, 30, 14336, 48, 48): "wan2.2-ti2v-5b",
}
#: Tensors of relatives that need more than the plain model, and what they are for.
_BRANCHES = {
    "vace_": ("wan vace", "a VACE control branch"),
    "casual_audio_encoder.": ("wan s2v", "an audio branch"),
    "audio_injector.": ("wan s2v", "an audio branch"),
    "motion_encoder.": ("wan animate", "a motion branch"),
    "control_adapter.": ("wan fun-camera", "a camera branch"),
    "ref_conv.": ("wan fun-control", "a reference branch"),
    "img_emb.emb_pos": ("wan2.1-flf2v-14b", "a CLIP image branch"),
    "img_emb.": ("wan2.1-i2v-14b", "a CLIP image branch"),
    "condition_embedder.image_embedder.": ("wan2.1-i2v-14b", "a CLIP image branch"),
}
_NOT_UMT5 = (
    "it is a T5 that is not UMT5: one relative position bias for all layers instead of one in each; "
    "Wan needs UMT5-XXL, such as city96/umt5-xxl-encoder-gguf"
)


@dataclass(frozen=True, slots=True)
class _TransformerNames:
    dialect: str
    marks: tuple[str, ...]
    head: str
    text: str
    feed_forward: str


_TRANSFORMERS = (
    _TransformerNames(
        "original",
        ("head.modulation", "text_embedding.2.weight"),
        "head.head.weight",
        "text_embedding.0.weight",
        "blocks.0.ffn.0.weight",
    ),
    _TransformerNames(
        "diffusers",
        ("scale_shift_table", "condition_embedder.text_embedder.linear_2.weight"),
        "proj_out.weight",
        "condition_embedder.text_embedder.linear_1.weight",
        "blocks.0.ffn.net.0.proj.weight",
    ),
)


@dataclass(frozen=True, slots=True)
class _EncoderNames:
    dialect: str
    block: str
    bias: str
    query: str
    up: str

    def first(self, name: str) -> str:
        return f"{self.block}0.{name}"


_ENCODERS = (
    _EncoderNames("llama.cpp", "enc.blk.", "attn_rel_b.weight", "attn_q.weight", "ffn_up.weight"),
    _EncoderNames(
        "transformers",
        "encoder.block.",
        "layer.0.SelfAttention.relative_attention_bias.weight",
        "layer.0.SelfAttention.q.weight",
        "layer.1.DenseReluDense.wi_1.weight",
    ),
    _EncoderNames("original", "blocks.", "pos_embedding.embedding.weight", "attn.q.weight", "ffn.fc1.weight"),
)
_LORA = re.compile(r"\.lora_(down|up|A|B)\.|[._]lora\.(down|up)\.|^lora_|\.diff(_[bm])?$")
_HIGH = re.compile(r"high[\W_]*noise|(?<![a-z])high(?![a-z])", re.IGNORECASE)
_LOW = re.compile(r"low[\W_]*noise|(?<![a-z])low(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a file is. Dimensions are None where the kind has none or the file does not say.

    ``width`` is the model width of a diffusion model or text encoder and the base channels of a VAE;
    ``expert`` is a hint from names alone; ``problem`` says why the file cannot be used.
    """

    kind: Kind
    variant: str
    dialect: str = ""
    latent_channels: int | None = None
    in_channels: int | None = None
    text_width: int | None = None
    width: int | None = None
    layers: int | None = None
    heads: int | None = None
    ffn: int | None = None
    expert: str | None = None
    problem: str | None = None


def is_toy(header: Header) -> bool:
    """Whether this is an expert of wan-toy, of any type: it has the name in it."""
    return str(header.metadata.get("general.name", "")).startswith("wan-toy")


def identify(header: Header) -> Identity:
    """What the file of ``header`` is; of kind "unknown" when it is none of ours."""
    for prefix in _PREFIXES:
        tensors = _without(prefix, header.tensors)
        for recognise in (_diffusion, _vae, _tiny, _text_encoder):
            identity = recognise(tensors, header)
            if identity is not None:
                return identity
    if any(_LORA.search(name) for name in header.tensors):
        return Identity("adapter", "lora", expert=_expert(header))
    architecture = header.metadata.get("general.architecture")
    return Identity("unknown", architecture if isinstance(architecture, str) else "unknown")


def expert_hint(text: str) -> str | None:
    """The expert that a file's name speaks of, unless it speaks of neither or both."""
    high, low = _HIGH.search(text) is not None, _LOW.search(text) is not None
    if high == low:
        return None
    return "high_noise" if high else "low_noise"


def _without(prefix: str, tensors: Mapping[str, TensorInfo]) -> Mapping[str, TensorInfo]:
    if not prefix:
        return tensors
    return {name.removeprefix(prefix): info for name, info in tensors.items() if name.startswith(prefix)}


def _dim(tensors: Mapping[str, TensorInfo], name: str, axis: int, rank: int) -> int | None:
    """One dimension of a tensor, or None when it is not there or has another rank."""
    info = tensors.get(name)
    return info.shape[axis] if info is not None and len(info.shape) == rank else None


def _count(tensors: Mapping[str, TensorInfo], pattern: str) -> int:
    """How many different numbers stand at the group of ``pattern``."""
    matcher = re.compile(pattern, re.ASCII)
    return len({match[1] for match in map(matcher.match, tensors) if match})


def _has(tensors: Mapping[str, TensorInfo], start: str) -> bool:
    return any(name.startswith(start) for name in tensors)


def _expert(header: Header) -> str | None:
    role = header.metadata.get(ROLE)
    if role in ("high_noise", "low_noise"):
        return str(role)
    name = header.metadata.get("general.name")
    places = (header.path.name, header.path.parent.name, name if isinstance(name, str) else "")
    return next(filter(None, map(expert_hint, places)), None)


def _diffusion(tensors: Mapping[str, TensorInfo], header: Header) -> Identity | None:
    names = next((names for names in _TRANSFORMERS if all(mark in tensors for mark in names.marks)), None)
    if names is None:
        return None
    rows, width = _dim(tensors, names.head, 0, 2), _dim(tensors, names.head, 1, 2)
    identity = Identity(
        "diffusion",
        "wan (custom)",
        names.dialect,
        latent_channels=rows // PATCH_VOLUME if rows else None,
        in_channels=_dim(tensors, "patch_embedding.weight", 1, 5),
        text_width=_dim(tensors, names.text, 1, 2),
        width=width,
        layers=_count(tensors, r"blocks\.(\d{1,9})\."),
        heads=width // HEAD_DIM if width else None,
        ffn=_dim(tensors, names.feed_forward, 0, 2),
        expert=_expert(header),
    )
    dims = (identity.width, identity.layers, identity.ffn, identity.in_channels, identity.latent_channels)
    variant, problem = _VARIANTS.get(dims, identity.variant), _diffusion_problem(identity, tensors)
    branch = next((found for start, found in _BRANCHES.items() if _has(tensors, start)), None)
    if branch is not None:
        variant, problem = branch[0], problem or f"it has {branch[1]}, which this version cannot run"
    return replace(identity, variant=variant, problem=problem)


def _diffusion_problem(identity: Identity, tensors: Mapping[str, TensorInfo]) -> str | None:
    if "patch_embedding.weight" not in tensors:
        return (
            "patch_embedding.weight is missing: it has five dimensions, and quantisers that know four leave "
            "it out until it is put back (city96/ComfyUI-GGUF, tools/fix_5d_tensors.py): use a fixed file"
        )
    dims = (identity.latent_channels, identity.in_channels, identity.text_width, identity.ffn)
    if not identity.width or None in dims:
        return "tensors that every Wan model has are missing or have other ranks"
    if identity.width % HEAD_DIM:
        return f"its width {identity.width} is no multiple of the head size {HEAD_DIM}"
    return None


def _vae(tensors: Mapping[str, TensorInfo], header: Header) -> Identity | None:
    for dialect, first, last in (
        ("original", "decoder.conv1.weight", "decoder.head.2.weight"),
        ("diffusers", "decoder.conv_in.weight", "decoder.conv_out.weight"),
    ):
        latent, pixels = _dim(tensors, first, 1, 5), _dim(tensors, last, 0, 5)
        if latent is not None and pixels in (3, 12):  # 12: four pixels of three colours
            variant = "wan vae 2.1" if pixels == 3 else "wan vae 2.2"
            width = _dim(tensors, last, 1, 5)
            return Identity("vae", variant, dialect, latent_channels=latent, width=width)
    return None


def _tiny(tensors: Mapping[str, TensorInfo], header: Header) -> Identity | None:
    latent, pixels = _dim(tensors, "decoder.1.weight", 1, 4), _dim(tensors, "decoder.22.weight", 0, 4)
    if latent is None or pixels not in (3, 12):
        return None
    variant = {(16, 3): "taew2.1", (48, 12): "taew2.2"}.get((latent, pixels), "tiny decoder (custom)")
    width = _dim(tensors, "decoder.22.weight", 1, 4)
    return Identity("tiny", variant, "original", latent_channels=latent, width=width)


def _text_encoder(tensors: Mapping[str, TensorInfo], header: Header) -> Identity | None:
    names = next((names for names in _ENCODERS if _dim(tensors, names.first(names.bias), 1, 2)), None)
    if names is None:
        return None
    layers = _count(tensors, re.escape(names.block) + r"(\d{1,9})\.")
    biases = _count(tensors, re.escape(names.block) + r"(\d{1,9})\." + re.escape(names.bias) + "$")
    width = _dim(tensors, names.first(names.query), 1, 2)
    own = biases == layers
    umt5 = "umt5-xxl" if (width, layers) == (4096, 24) else "umt5 (custom)"
    return Identity(
        "text_encoder",
        umt5 if own else "t5",
        names.dialect,
        width=width,
        layers=layers,
        heads=_dim(tensors, names.first(names.bias), 1, 2),
        ffn=_dim(tensors, names.first(names.up), 0, 2),
        problem=None if own else _NOT_UMT5,
    )
