"""Prompts as people write them: weights change the rows of their words, and long ones are read in parts."""

from __future__ import annotations

import logging

import pytest
import torch

from tests.prompts.test_hostile import HOSTILE
from wanrun.errors import InvalidRequest
from wanrun.prompts.markup import Weight
from wanrun.text.prompts import PromptEncoder, token_weights
from wanrun.text.umt5 import UMT5Encoder
from wanrun.types import Resource

TEXT = "a red ball bounces on a blue surface"


def words(encoder: UMT5Encoder, text: str, word: str) -> list[int]:
    """The rows of the tokens that touch the word."""
    start = text.index(word)
    end = start + len(word)
    return [row for row, (first, last) in enumerate(encoder.spans(text)) if first < end and last > start]


def test_plain_prompts_are_encoded_as_they_are(encoder: UMT5Encoder) -> None:
    prompts = PromptEncoder(encoder)
    for text in ("", TEXT, "  a  red\n ball ", "红色的球 😀", "a (red) ball :)"):
        assert torch.equal(prompts.encode(text), encoder.encode(text))
        assert prompts.tokenize(text) == encoder.tokenize(text)
    assert torch.equal(prompts.encode(r"a \(red:1.3\) ball"), encoder.encode("a (red:1.3) ball"))
    assert torch.equal(prompts.encode("a (red:1) ball"), encoder.encode("a red ball"))


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.3, 2.0])
def test_a_weight_moves_the_rows_of_its_word_from_those_of_nothing(
    encoder: UMT5Encoder, weight: float
) -> None:
    text = TEXT.replace("blue surface", f"(blue surface:{weight})")
    found = PromptEncoder(encoder).encode(text)
    rows, nothing = encoder.encode(TEXT), encoder.encode("")[0]
    weighed = words(encoder, TEXT, "blue surface")
    others = [row for row in range(len(rows)) if row not in weighed]
    assert weighed
    assert torch.equal(found[others], rows[others])
    expected = nothing + weight * (rows[weighed] - nothing)
    torch.testing.assert_close(found[weighed], expected)
    assert not torch.equal(found[weighed], rows[weighed])


def test_blanks_entities_and_broken_text_do_not_shift_a_weight(encoder: UMT5Encoder) -> None:
    expected = PromptEncoder(encoder).encode("caf\u00e9 & (red:1.5) ball")
    for text in (
        "  caf\u00e9 &amp;  ( red : 1.5 )\n ball",
        "caf\u00e9 &amp;amp; (red:1.5) ball",
        "caf\u00c3\u00a9 & (red:1.5) ball",
    ):
        assert torch.equal(PromptEncoder(encoder).encode(text), expected)


def test_a_token_has_the_weight_of_most_of_its_characters() -> None:
    spans = [(0, 1), (1, 5), (5, 9), (9, 9), (9, 12)]
    weights = [Weight(1, 6, 2.0), Weight(6, 9, 3.0), Weight(11, 12, 0.5)]
    assert token_weights(spans, weights).tolist() == [1.0, 2.0, 3.0, 1.0, 0.5, 1.0]


def test_a_long_prompt_is_the_rows_of_its_parts(encoder: UMT5Encoder) -> None:
    sentences = [f"a red ball number {number} bounces on a blue surface. " for number in range(60)]
    text = "".join(sentences).strip()
    rows = PromptEncoder(encoder).encode(text)
    assert len(rows) > 512
    at, start = 0, 0
    while start < len(text):  # each part is the longest run of sentences that fits, and stands as if alone
        end = max(stop for stop in _ends(text, start) if len(encoder.spans(text[start:stop])) < 512)
        part = encoder.encode(text[start:end])
        assert torch.equal(rows[at : at + len(part)], part)
        at, start = at + len(part), end
    assert at == len(rows)


def _ends(text: str, start: int) -> list[int]:
    """Where sentences after ``start`` end, with the blank behind them."""
    stops = [index + 2 for index in range(start, len(text)) if text.startswith(". ", index)]
    return [*stops, len(text)]


def test_weights_reach_into_every_part(encoder: UMT5Encoder) -> None:
    text = "a red ball bounces on a blue surface. " * 60 + "a (green:2) cube"
    found = PromptEncoder(encoder).encode(text)
    plain = PromptEncoder(encoder).encode(text.replace("(green:2)", "green"))
    changed = (found != plain).any(1).nonzero().flatten().tolist()
    assert changed
    assert min(changed) > len(plain) - 12


def test_a_prompt_without_end_is_cut_and_the_warning_says_where(
    encoder: UMT5Encoder, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "wanrun"):
        rows = PromptEncoder(encoder).encode("red ball, " * 10_000)
    assert 7 * 512 < len(rows) <= 8 * 512
    assert "the model will not see: red ball" in caplog.text


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_prompts_are_encoded_or_refused(
    encoder: UMT5Encoder, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    try:
        rows = PromptEncoder(encoder).encode(text)
    except InvalidRequest as error:
        assert "Unicode" in str(error)  # lone surrogates
        return
    assert 1 <= len(rows) <= 8 * 512
    assert torch.isfinite(rows).all()


class Plain(Resource):
    """Another's encoder, which knows nothing of characters."""

    def tokenize(self, text: str) -> list[int]:
        return [1]

    def encode(self, text: str) -> torch.Tensor:
        return torch.zeros(1, 4)

    def close(self) -> None:
        pass


def test_an_encoder_without_spans_still_takes_plain_prompts() -> None:
    prompts = PromptEncoder(Plain())
    assert prompts.encode("a red ball").shape == (1, 4)
    for text in ("a (red:2) ball", "a red ball " * 100):
        with pytest.raises(InvalidRequest, match="use no weights"):
            prompts.encode(text)
