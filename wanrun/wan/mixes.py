"""Which type each tensor of a Wan transformer gets in a quantised file.

The rules are those by which the published files are made (city96/ComfyUI-GGUF tools/lcpp.patch): only the
blocks' matrices are quantised, schedules and embeddings keep their precision, and the layers that hurt most,
values and the second half of the feed-forward, get more bits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from wanrun.errors import InvalidRequest
from wanrun.gguf.types import tensor_type

_BLOCK = re.compile(r"(?:.*\.)?blocks\.(\d+)\.(?:self_attn|cross_attn)\.(?:[qko]|v|[kv]_img)\.weight|"
                    r"(?:.*\.)?blocks\.(\d+)\.ffn\.[02]\.weight")  # fmt: skip

_HALVES = ("F16", "BF16")
_FP8 = ("F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ")
#: Types of 32 elements a block in place of those of more.
_SMALLER_BLOCKS = {
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS"), "IQ4_NL"),
    **dict.fromkeys(("Q1_0", "Q2_0", "Q2_K", "Q3_K", "TQ1_0", "TQ2_0"), "Q4_0"),
    "NVFP4": "MXFP4",
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}


@dataclass(frozen=True, slots=True)
class Mix:
    """A file type: its number in ``general.file_type``, the type of most matrices, and the exceptions.

    ``value`` and ``down`` are the types of ``v`` and of ``ffn.2``; in the first ``early`` blocks
    ``early_value`` is ``v``'s.
    """

    file_type: int
    base: str
    value: str = ""
    down: str = ""
    early: int = 0
    early_value: str = ""


MIXES: Mapping[str, Mix] = MappingProxyType(
    {
        "F32": Mix(0, "F32"),
        "F16": Mix(1, "F16"),
        "BF16": Mix(32, "BF16"),
        "Q4_0": Mix(2, "Q4_0", down="Q4_1"),
        "Q4_1": Mix(3, "Q4_1"),
        "Q8_0": Mix(7, "Q8_0"),
        "Q5_0": Mix(8, "Q5_0", down="Q5_1"),
        "Q5_1": Mix(9, "Q5_1"),
        "Q2_K": Mix(10, "Q2_K", value="Q3_K"),
        "Q3_K_S": Mix(11, "Q3_K"),
        "Q3_K_M": Mix(12, "Q3_K", value="Q4_K", down="Q4_K", early=2, early_value="Q5_K"),
        "Q3_K_L": Mix(13, "Q3_K", value="Q5_K", down="Q5_K"),
        "Q4_K_S": Mix(14, "Q4_K", down="Q5_K", early=4, early_value="Q5_K"),
        "Q4_K_M": Mix(15, "Q4_K", value="Q6_K", down="Q6_K"),
        "Q5_K_S": Mix(16, "Q5_K"),
        "Q5_K_M": Mix(17, "Q5_K", value="Q6_K", down="Q6_K"),
        "Q6_K": Mix(18, "Q6_K"),
        "IQ1_S": Mix(24, "IQ1_S"),
        "IQ1_M": Mix(31, "IQ1_M"),
        "IQ2_XXS": Mix(19, "IQ2_XXS"),
        "IQ2_XS": Mix(20, "IQ2_XS"),
        "IQ2_S": Mix(28, "IQ2_S"),
        "IQ3_XXS": Mix(23, "IQ3_XXS"),
        "IQ3_S": Mix(26, "IQ3_S"),
        "IQ4_XS": Mix(30, "IQ4_XS"),
        "IQ4_NL": Mix(25, "IQ4_NL"),
        "TQ1_0": Mix(36, "TQ1_0"),
        "TQ2_0": Mix(37, "TQ2_0"),
        "MXFP4": Mix(38, "MXFP4"),
        "NVFP4": Mix(39, "NVFP4"),
        "Q1_0": Mix(40, "Q1_0"),
        "Q2_0": Mix(41, "Q2_0"),
    }
)


def find_mix(name: str) -> Mix:
    """The mix called ``name``, in any case; InvalidRequest lists them."""
    mix = MIXES.get(name.upper())
    if mix is None:
        raise InvalidRequest(f"{name[:60]!r} is no type that can be made; there are {', '.join(MIXES)}")
    return mix


def choose(mix: Mix, name: str, shape: tuple[int, ...]) -> str | None:
    """The type that the tensor gets, None to leave it as it is."""
    if not quantised(name, shape):
        return None
    kind = mix.base
    if name.endswith((".v.weight", ".v_img.weight")):
        block = _BLOCK.fullmatch(name)
        early = block is not None and block[1] is not None and int(block[1]) < mix.early
        kind = (mix.early_value if early else mix.value) or kind
    elif name.endswith(".ffn.2.weight"):
        kind = mix.down or kind
    return fitting(kind, shape)


def quantised(name: str, shape: tuple[int, ...]) -> bool:
    """Whether the tensor is one of the blocks' matrices, all that is ever quantised."""
    return len(shape) == 2 and _BLOCK.fullmatch(name) is not None


def fitting(kind: str, shape: tuple[int, ...]) -> str:
    """``kind``, or what llama.cpp takes for rows that are not whole blocks of it (llama-quant.cpp)."""
    for candidate in (kind, _SMALLER_BLOCKS.get(kind, "F16")):
        if shape[-1] % tensor_type(candidate).block == 0:
            return candidate
    return "F16"


def plain(name: str, shape: tuple[int, ...], kind: str) -> str:
    """The type that what is not quantised has in a file for every tool, given its own: exact but for fp8.

    As city96/ComfyUI-GGUF tools/convert.py and fix_5d_tensors.py: vectors, modulation and the patch
    embedding are F32, and GGUF has no fp8.
    """
    if (len(shape) != 2 or name.endswith("modulation")) and kind in (*_HALVES, *_FP8, "F64"):
        return "F32"
    return "F16" if kind in _FP8 else kind
