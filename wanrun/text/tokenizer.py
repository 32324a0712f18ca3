"""Rebuilds a model's sentencepiece tokeniser from the metadata of its GGUF.

llama.cpp's own T5 tokeniser has no byte fallback: a character outside the vocabulary (an emoji, a rare
ideograph) becomes ``<unk>``, where the tokeniser the model was trained with gives its UTF-8 bytes. So the
vocabulary is put back into sentencepiece's file format, character map included, and sentencepiece itself does
the work.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, TypeGuard

from sentencepiece import SentencePieceProcessor

from wanrun.errors import FormatError, InvalidRequest
from wanrun.gguf.layout import NumberArray, StringArray, Value

#: What a Wan model reads, end-of-sequence token included.
MAX_TOKENS = 512

_PREFIX = "tokenizer.ggml."
#: sentencepiece_model.proto: ModelProto.SentencePiece.Type; the GGUF has the same numbers.
_NORMAL, _UNKNOWN, _BYTE = 1, 2, 6
_UNIGRAM = 1
_SHOWN = 1000

_log = logging.getLogger("wanrun")


@dataclass(frozen=True, slots=True)
class Tokens:
    """A prompt's token ids, end-of-sequence id included, and the part of the text that did not fit."""

    ids: list[int]
    cut: str


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """A sentencepiece unigram model that ends every prompt with its end-of-sequence id."""

    processor: SentencePieceProcessor
    eos_id: int

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Value]) -> Self:
        """The tokeniser that a GGUF's ``tokenizer.ggml.*`` keys describe.

        Raises InvalidRequest for another kind of tokeniser than T5's, FormatError for keys that are missing
        or wrong.
        """
        model = metadata.get(_PREFIX + "model")
        if model != "t5":
            raise InvalidRequest(
                f"the text encoder's tokenizer is {model!r}, not 't5'; use a UMT5 encoder's GGUF"
            )
        proto = model_proto(metadata)
        try:
            processor = SentencePieceProcessor(model_proto=proto)
        except (RuntimeError, ValueError) as error:
            raise FormatError(
                f"the text encoder's vocabulary does not load: {error}; fetch the file again"
            ) from error
        eos_id = metadata.get(_PREFIX + "eos_token_id", 1)
        if not _is_id(eos_id, len(processor)):
            raise FormatError(f"{_PREFIX}eos_token_id is {eos_id!r}, not an id below {len(processor)}")
        return cls(processor, eos_id)

    def count(self, text: str) -> int:
        """How many tokens ``text`` has, end-of-sequence included, however many they are."""
        return len(self.processor.encode(_unicode(text))) + 1

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Of each token of ``text``, without the end-of-sequence, the characters that it stands for."""
        return [
            (start, end)
            for start, end in self.processor.encode(_unicode(text), out_type="offset_mapping")["offsets"]
        ]

    def split(self, text: str, limit: int = MAX_TOKENS) -> Tokens:
        """The first ``limit`` - 1 token ids of ``text`` and the end-of-sequence id, with what did not fit.

        Raises InvalidRequest for text that is not Unicode (lone surrogates).
        """
        ids = self.processor.encode(_unicode(text))
        if len(ids) < limit:
            return Tokens([*ids, self.eos_id], "")
        offsets = self.processor.encode(text, out_type="offset_mapping")["offsets"]
        return Tokens([*ids[: limit - 1], self.eos_id], text[offsets[limit - 1][0] :])

    def encode(self, text: str) -> list[int]:
        """The token ids of ``text``, at most 512; a longer text is cut, and a warning shows what was lost."""
        tokens = self.split(text)
        if tokens.cut:
            _log.warning(
                "the prompt is longer than %d tokens; the model will not see: %s",
                MAX_TOKENS,
                shown(tokens.cut),
            )
        return tokens.ids


def model_proto(metadata: Mapping[str, Value]) -> bytes:
    """A serialised sentencepiece ModelProto of the vocabulary in ``metadata``.

    Written by hand because sentencepiece's Python bindings need protobuf only for this. Field numbers are
    those of ``src/sentencepiece_model.proto`` in google/sentencepiece. Raises FormatError.
    """
    tokens = metadata.get(_PREFIX + "tokens")
    if not isinstance(tokens, StringArray):
        raise FormatError(f"{_PREFIX}tokens is missing or no array of strings; the file has no vocabulary")
    scores = _numbers(metadata, "scores", ("FLOAT32",))
    kinds = [int(kind) for kind in _numbers(metadata, "token_type", ("INT32", "UINT32"))]
    if not len(tokens) == len(scores) == len(kinds):
        raise FormatError(
            f"the vocabulary has {len(tokens)} tokens, {len(scores)} scores and {len(kinds)} types"
        )
    if not all(map(math.isfinite, scores)) or not set(kinds) <= set(range(_NORMAL, _BYTE + 1)):
        raise FormatError("the vocabulary has scores that are not finite or types that sentencepiece has not")
    packed = (scores.data[start : start + 4] for start in range(0, len(scores.data), 4))
    pieces = [_piece(*entry) for entry in zip(tokens, packed, kinds, strict=True)]
    unknown = metadata.get(_PREFIX + "unknown_token_id", 2)
    if not _is_id(unknown, len(kinds)) or kinds[unknown] != _UNKNOWN:
        raise FormatError(
            f"{_PREFIX}unknown_token_id is {unknown!r}, which is not the vocabulary's unknown token"
        )
    trainer = (
        _number(3, _UNIGRAM) + _number(4, len(pieces)) + _number(35, _BYTE in kinds) + _number(40, unknown)
    )
    charsmap = b""
    if _PREFIX + "precompiled_charsmap" in metadata:
        charsmap = _numbers(metadata, "precompiled_charsmap", ("UINT8", "INT8")).data
    normalizer = (
        _message(2, charsmap)
        + _number(3, _flag(metadata, "add_space_prefix"))
        + _number(4, _flag(metadata, "remove_extra_whitespaces"))
    )
    return b"".join([*pieces, _message(2, trainer), _message(3, normalizer)])


def _unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"the prompt is not valid Unicode: {error}") from error
    return text


def _piece(token: str, score: bytes, kind: int) -> bytes:
    # b"\x15" is field 2 of four fixed bytes, which are little-endian in both formats
    return _message(1, _message(1, token.encode()) + b"\x15" + score + _number(3, kind))


def _numbers(metadata: Mapping[str, Value], key: str, kinds: tuple[str, ...]) -> NumberArray:
    value = metadata.get(_PREFIX + key)
    if not isinstance(value, NumberArray) or value.kind not in kinds:
        raise FormatError(f"{_PREFIX}{key} is missing or no array of {' or '.join(kinds)}")
    return value


def _flag(metadata: Mapping[str, Value], key: str) -> bool:
    value = metadata.get(_PREFIX + key, True)
    if not isinstance(value, bool):
        raise FormatError(f"{_PREFIX}{key} is {value!r}, not true or false")
    return value


def _is_id(value: Value, size: int) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < size


def _varint(value: int) -> bytes:
    if value < 128:
        return bytes((value,))
    return bytes((value & 127 | 128,)) + _varint(value >> 7)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _message(field: int, payload: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(payload)) + payload


def shown(text: str) -> str:
    """``text`` as a message shows it: its beginning, where it is long."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… (and {len(text) - _SHOWN} more characters)"
