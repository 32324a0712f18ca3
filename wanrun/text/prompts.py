"""Encodes a prompt as people write it: with weights, and longer than the encoder's window."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from wanrun.errors import InvalidRequest
from wanrun.prompts.markup import Weight, parse
from wanrun.text.clean import clean
from wanrun.text.parts import MOST_PARTS, divide
from wanrun.text.tokenizer import MAX_TOKENS, shown
from wanrun.types import Resource, SpanEncoder, TextEncoder

_log = logging.getLogger("wanrun")


class PromptEncoder(Resource):
    """A TextEncoder over another one, which is given plain text of at most 512 tokens.

    A longer prompt is divided at clause boundaries, and the rows of its parts follow each other:
    cross-attention knows no order of its rows, so that the model reads them as one prompt. For weights see
    :func:`weigh`.
    """

    def __init__(self, encoder: TextEncoder) -> None:
        self._encoder = encoder

    def tokenize(self, text: str) -> list[int]:
        """Token ids of the text without its marks, as the encoder has them."""
        return self._encoder.tokenize(parse(text).text)

    def encode(self, text: str) -> Tensor:
        """(tokens, width) float32 on the CPU: at most eight times 512 rows, end-of-sequence rows included.

        Raises InvalidRequest for weights that are out of range, or that the encoder cannot give.
        """
        marked = parse(text)
        if marked.weights:
            marked = parse(clean(text))  # whose characters are those that the tokens stand for
        parts = divide(marked.text, self._count)
        if parts.cut:
            _log.warning(
                "the prompt is longer than %d parts of %d tokens; the model will not see: %s",
                MOST_PARTS,
                MAX_TOKENS,
                shown(parts.cut),
            )
        rows, start = [], 0
        for part in parts.texts:
            end = start + len(part)
            within = [
                Weight(max(each.start, start) - start, min(each.end, end) - start, each.weight)
                for each in marked.weights
                if each.start < end and each.end > start
            ]
            rows.append(self._weighted(part, within))
            start = end
        return torch.cat(rows)

    def close(self) -> None:
        """Close the encoder."""
        self._encoder.close()

    def _weighted(self, text: str, weights: list[Weight]) -> Tensor:
        rows = self._encoder.encode(text)
        if not weights:
            return rows
        return weigh(rows, self._encoder.encode("")[0], token_weights(self._spans(text), weights))

    def _count(self, text: str) -> int:
        return len(self._spans(text)) + 1

    def _spans(self, text: str) -> list[tuple[int, int]]:
        if not isinstance(self._encoder, SpanEncoder):
            raise InvalidRequest(
                "this text encoder cannot say which token stands for which word: use no weights, and prompts "
                f"of fewer than {MAX_TOKENS - 1} characters"
            )
        return self._encoder.spans(text)


def token_weights(spans: list[tuple[int, int]], weights: list[Weight]) -> Tensor:
    """(tokens + 1,): of each token the weight of most of its characters, and 1 for the end of sequence."""
    of_tokens = torch.ones(len(spans) + 1)
    first = 0
    for index, (start, end) in enumerate(spans):
        while first < len(weights) and weights[first].end <= start:
            first += 1
        best = 0
        for each in weights[first:]:
            if each.start >= end:
                break
            shared = min(end, each.end) - max(start, each.start)
            if shared > best:
                best, of_tokens[index] = shared, each.weight
    return of_tokens


def weigh(rows: Tensor, neutral: Tensor, weights: Tensor) -> Tensor:
    """``rows`` (tokens, width) moved from ``neutral`` (width,), an empty prompt's row, by their weights.

    neutral + w·(row − neutral), as ComfyUI does it (comfyanonymous/ComfyUI, comfy/sd1_clip.py): at 0 the word
    says nothing, at 1 what it says, above 1 more.
    """
    by = weights[:, None]
    return torch.where(by == 1, rows, neutral + by * (rows - neutral))  # to the bit where there is no weight
