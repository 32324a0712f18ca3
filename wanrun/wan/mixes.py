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
    }
)


def find_mix(name: str) -> Mix:
    """The mix called ``name``, in any case; InvalidRequest lists them."""
    mix = MIXES.get(name.upper())
    if mix is None:
        raise InvalidRequest(f"{name[:60]!r} is no type that can be made; there are {', '.join(MIXES)}")
    return mix


def choose(mix: Mix, name: str, shape: tuple[int, ...]) -> str | None:
    """The type that the tensor gets, None to leave it as it is.

    A matrix whose rows do not divide into the type's blocks becomes F16.
    """
    match = _BLOCK.fullmatch(name)
    if match is None or len(shape) != 2:
        return None
    kind = mix.base
    if name.endswith((".v.weight", ".v_img.weight")):
        early = match[1] is not None and int(match[1]) < mix.early
        kind = (mix.early_value if early else mix.value) or kind
    elif name.endswith(".ffn.2.weight"):
        kind = mix.down or kind
    return kind if shape[1] % tensor_type(kind).block == 0 else "F16"
