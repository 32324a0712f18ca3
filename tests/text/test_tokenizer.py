"""Checks that the tokeniser rebuilt from a GGUF gives sentencepiece's own ids."""

from __future__ import annotations

import dataclasses
import logging
import random
from pathlib import Path

import pytest
from sentencepiece import SentencePieceProcessor

from tests.text.corpus import strings
from tests.text.tiny import TRAINERS
from wanrun.errors import FormatError, InvalidRequest
from wanrun.gguf.layout import NumberArray, StringArray, Value
from wanrun.gguf.reader import read_gguf
from wanrun.text.tokenizer import MAX_TOKENS, Tokenizer

UNLIMITED = 1 << 30


def metadata_of(path: Path) -> dict[str, Value]:
    return dict(read_gguf(path).metadata)


@pytest.mark.parametrize("name", TRAINERS)
def test_ids_equal_sentencepiece(
    name: str, vocabularies: dict[str, bytes], encoder_files: dict[str, Path]
) -> None:
    original = SentencePieceProcessor(model_proto=vocabularies[name])
    rebuilt = Tokenizer.from_metadata(metadata_of(encoder_files[name]))
    texts = strings()
    assert len(texts) >= 500
    assert rebuilt.eos_id == original.eos_id() == 1
    for text in texts:
        assert rebuilt.split(text, UNLIMITED).ids == [*original.encode(text), 1], ascii(text)


def test_the_strings_reach_every_kind_of_token(
    vocabularies: dict[str, bytes], encoder_files: dict[str, Path]
) -> None:
    tokenizers = [Tokenizer.from_metadata(metadata_of(encoder_files[name])) for name in TRAINERS]
    bytes_seen, defined_seen, unknown_seen = (
        {token for text in strings() for token in tokenizer.split(text, UNLIMITED).ids}
        for tokenizer in tokenizers
    )
    original = SentencePieceProcessor(model_proto=vocabularies["nmt_nfkc"])
    assert sum(original.is_byte(token) for token in bytes_seen) > 100
    assert 2 in unknown_seen
    assert 2 not in bytes_seen
    identity = SentencePieceProcessor(model_proto=vocabularies["identity"])
    assert identity.piece_to_id("<extra_id_0>") in defined_seen


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("precompiled_charsmap", NumberArray("UINT8", b""), "ﬁne Ⅷ ｆｕｌｌ"),
        ("add_space_prefix", False, "red ball"),
        ("remove_extra_whitespaces", False, "red   ball"),
    ],
)
def test_every_key_of_the_normaliser_counts(encoder_file: Path, key: str, value: Value, text: str) -> None:
    metadata = metadata_of(encoder_file)
    right = Tokenizer.from_metadata(metadata).encode(text)
    wrong = Tokenizer.from_metadata({**metadata, f"tokenizer.ggml.{key}": value}).encode(text)
    assert right != wrong


def test_signed_bytes_are_the_same_charsmap(encoder_file: Path) -> None:
    metadata = metadata_of(encoder_file)
    charsmap = metadata["tokenizer.ggml.precompiled_charsmap"]
    assert isinstance(charsmap, NumberArray)
    signed = {**metadata, "tokenizer.ggml.precompiled_charsmap": NumberArray("INT8", charsmap.data)}
    assert Tokenizer.from_metadata(signed).encode("ﬁne") == Tokenizer.from_metadata(metadata).encode("ﬁne")


def test_a_long_prompt_is_cut_and_the_warning_shows_what_was_lost(
    encoder_file: Path, vocabularies: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = Tokenizer.from_metadata(metadata_of(encoder_file))
    whole = SentencePieceProcessor(model_proto=vocabularies["nmt_nfkc"])
    word = next(
        piece[1:] for piece in map(whole.id_to_piece, range(260, 500)) if len(piece) > 3 and "▁" in piece
    )
    kept = " ".join([word] * (MAX_TOKENS - 1))
    assert len(whole.encode(kept)) == MAX_TOKENS - 1
    with caplog.at_level(logging.WARNING, "wanrun"):
        assert tokenizer.encode(kept) == [*whole.encode(kept), 1]
        assert not caplog.records
        ids = tokenizer.encode(kept + " ﬁne green CUBE")
    assert ids == [*whole.encode(kept), 1]
    assert len(ids) == MAX_TOKENS
    assert "ﬁne green CUBE" in caplog.text
    assert word not in caplog.text


def test_the_warning_about_a_huge_prompt_is_short(
    encoder_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Tokenizer.from_metadata(metadata_of(encoder_file)).encode("红" * 100_000)
    assert "more characters" in caplog.text
    assert len(caplog.text) < 2000


def test_text_that_is_not_unicode_is_refused(encoder_file: Path) -> None:
    with pytest.raises(InvalidRequest, match="Unicode"):
        Tokenizer.from_metadata(metadata_of(encoder_file)).encode("a \ud800 b")


def test_an_empty_text_is_the_end_of_sequence_alone(encoder_file: Path) -> None:
    assert Tokenizer.from_metadata(metadata_of(encoder_file)).encode("") == [1]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tokens", None),
        ("tokens", "a string"),
        ("scores", None),
        ("scores", NumberArray("FLOAT32", b"")),
        ("scores", NumberArray("FLOAT32", bytes.fromhex("0000c07f") * 600)),
        ("token_type", None),
        ("token_type", NumberArray("INT32", bytes(4 * 600))),
        ("token_type", NumberArray("INT32", bytes.fromhex("01000000") * 600)),
        ("precompiled_charsmap", NumberArray("UINT8", b"\xff" * 100)),
        ("precompiled_charsmap", "a string"),
        ("add_space_prefix", 3),
        ("eos_token_id", 600),
        ("eos_token_id", -1),
        ("unknown_token_id", 5),
    ],
)
def test_wrong_keys_are_refused(encoder_file: Path, key: str, value: Value | None) -> None:
    metadata = metadata_of(encoder_file)
    del metadata[f"tokenizer.ggml.{key}"]
    if value is not None:
        metadata[f"tokenizer.ggml.{key}"] = value
    with pytest.raises(FormatError):
        Tokenizer.from_metadata(metadata)


def test_another_kind_of_tokeniser_is_refused(encoder_file: Path) -> None:
    with pytest.raises(InvalidRequest, match="gpt2"):
        Tokenizer.from_metadata({**metadata_of(encoder_file), "tokenizer.ggml.model": "gpt2"})


def test_mutated_vocabularies_give_only_our_errors(encoder_file: Path) -> None:
    metadata = metadata_of(encoder_file)
    rng = random.Random(0)
    refused = 0
    for _ in range(150):
        key = f"tokenizer.ggml.{rng.choice(['tokens', 'scores', 'token_type', 'precompiled_charsmap'])}"
        array = metadata[key]
        assert isinstance(array, NumberArray | StringArray)
        data = bytearray(array.data)
        for _ in range(rng.choice([1, 3, 30])):
            position = rng.randrange(len(data))
            # strings keep their lengths and stay UTF-8, which the reader has checked
            if isinstance(array, NumberArray) or 0x20 < data[position] < 0x7F:
                data[position] = (
                    rng.randrange(0x21, 0x7F) if isinstance(array, StringArray) else rng.randrange(256)
                )
        try:
            mutated = Tokenizer.from_metadata({**metadata, key: dataclasses.replace(array, data=bytes(data))})
            mutated.encode("ﬁne red ball 红色 😀 \x00")
        except (FormatError, InvalidRequest):
            refused += 1
    assert 0 < refused < 150
