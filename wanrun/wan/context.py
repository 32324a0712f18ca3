"""The text rows that cross-attention reads, with their padding folded into one row.

Wan pads the encoder's output with zero rows to 512 and masks nothing, so every padded row becomes the same
key and value and takes part in the softmax. n equal keys weigh as much as one key whose logit is raised by
ln n: keeping one padded row with that bias gives the same result and up to 8 times fewer keys.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wanrun.errors import InvalidRequest
from wanrun.wan.config import TEXT_TOKENS

#: Rows of a prompt in parts: beyond it, attention over the text costs as much as over the video.
MOST_ROWS = 8 * TEXT_TOKENS


@dataclass(frozen=True, slots=True)
class Context:
    """``rows`` (batch, keys, width) and ``bias`` (batch, 1, 1, keys), the logarithm of each key's count."""

    rows: Tensor
    bias: Tensor


def fold_padding(prompts: Sequence[Tensor]) -> Context:
    """A batch of (tokens, width) prompts as one Context; one of 512 tokens or more has no padding.

    Raises InvalidRequest for more than 4096 tokens.
    """
    longest = max(len(prompt) for prompt in prompts)
    if longest > MOST_ROWS:
        raise InvalidRequest(f"a prompt has {longest} tokens, at most {MOST_ROWS} fit")
    keys = longest + (longest < TEXT_TOKENS)
    first = prompts[0]
    rows = first.new_zeros(len(prompts), keys, first.shape[1])
    bias = torch.full((len(prompts), 1, 1, keys), -math.inf, device=first.device)
    for index, prompt in enumerate(prompts):
        count = len(prompt)
        rows[index, :count] = prompt
        bias[index, ..., :count] = 0.0
        if count < TEXT_TOKENS:
            bias[index, ..., count] = math.log(TEXT_TOKENS - count)
    return Context(rows, bias)
