"""Reads the alphas that a LoRA file states in its metadata instead of beside its matrices.

diffusers writes PEFT's configuration there as JSON (loaders/lora_base.py, LORA_ADAPTER_METADATA_KEY), each
key behind the part's prefix: ``transformer.lora_alpha``, ``transformer.alpha_pattern`` by ends of modules'
names, and ``transformer.use_rslora``, where the factor is alpha / √rank (arXiv 2312.03732).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from wanrun.errors import FormatError
from wanrun.gguf.layout import Header

_KEY = "lora_adapter_metadata"
_PREFIX = "transformer."


@dataclass(frozen=True, slots=True)
class StatedAlphas:
    """The alpha of every pair that has no tensor for it; none is stated without ``default``."""

    default: float | None = None
    by_end: Mapping[str, float] = field(default_factory=dict)
    of_root: bool = False

    def of(self, target: str, rank: int) -> float | None:
        """The alpha by whose quotient with ``rank`` the product for the module ``target`` is multiplied."""
        found = (alpha for end, alpha in self.by_end.items() if f".{target}".endswith(f".{end}"))
        alpha = next(found, self.default)
        return alpha * math.sqrt(rank) if alpha is not None and self.of_root else alpha


def stated_alphas(header: Header) -> StatedAlphas:
    """What the file's metadata states; FormatError where it is there and cannot be understood."""
    text = header.metadata.get(_KEY)
    if text is None:
        return StatedAlphas()
    try:
        stated = {
            key.removeprefix(_PREFIX): value
            for key, value in json.loads(str(text)).items()
            if key.startswith(_PREFIX)
        }
        if "lora_alpha" not in stated:
            return StatedAlphas()
        patterns = stated.get("alpha_pattern") or {}
        by_end = {str(end): _number(alpha) for end, alpha in patterns.items()}
        return StatedAlphas(_number(stated["lora_alpha"]), by_end, stated.get("use_rslora") is True)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError(f"{header.path}: its {_KEY} is no configuration of PEFT: {error}") from error


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r:.40} is no alpha")
    return float(value)
