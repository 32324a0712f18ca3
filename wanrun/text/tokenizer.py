"""This file rebuilds a model's sentencepiece tokeniser from the metadata of its GGUF.

llama.cpp's own T5 tokeniser has no byte fallback: a character outside the vocabulary (an emoji, a rare ideograph)
becomes ``<unk>``, where the tokeniser the model was trained with gives its UTF-8 bytes. So the vocabulary is put back
into sentencepiece's file format, character map included, and sentencepiece itself does the work.
"""

from __future__ import annotations

import logging
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from sentencepiece import SentencePieceProcessor

from wanrun.errors import FormatError, InvalidRequest

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
    def from_metadata(cls, metadata: Mapping[str, Any]) -> Self:
        """The tokeniser that a GGUF's ``tokenizer.ggml.*`` keys describe.

        Raises InvalidRequest for another kind of tokeniser than T5's, FormatError for keys that are missing or wrong.
        """
        model = metadata.get(_PREFIX + "model")
        if model != "t5":
            raise InvalidRequest(f"the text encoder's tokenizer is {model!r}, not 't5'; use a UMT5 encoder's GGUF")
        proto = model_proto(metadata)
        try:
            processor = SentencePieceProcessor(model_proto=proto)
        except RuntimeError as error:
            raise FormatError(f"the text encoder's vocabulary does not load: {error}; fetch the file again") from error
        eos_id = metadata.get(_PREFIX + "eos_token_id", 1)
        if not _is_id(eos_id, len(processor)):
            raise FormatError(f"{_PREFIX}eos_token_id is {eos_id!r}, not an id below {len(processor)}")
        return cls(processor, eos_id)

    def split(self, text: str, limit: int = MAX_TOKENS) -> Tokens:
        """The first ``limit`` - 1 token ids of ``text`` and the end-of-sequence id, with what did not fit.

        Raises InvalidRequest for text that is not Unicode (lone surrogates).
        """
        try:
            ids = self.processor.encode(text)
            if len(ids) < limit:
                return Tokens([*ids, self.eos_id], "")
            offsets = self.processor.encode(text, out_type="offset_mapping")["offsets"]
        except UnicodeEncodeError as error:
            raise InvalidRequest(f"the prompt is not valid Unicode: {error}") from error
        return Tokens([*ids[: limit - 1], self.eos_id], text[offsets[limit - 1][0] :])

    def encode(self, text: str) -> list[int]:
        """The token ids of ``text``, at most 512; a longer text is cut, and a warning shows what was lost."""
        tokens = self.split(text)
        if tokens.cut:
            _log.warning("the prompt is longer than %d tokens; the model will not see: %s", MAX_TOKENS, _shown(tokens.cut))
        return tokens.ids


def model_proto(metadata: Mapping[str, Any]) -> bytes:
    """A serialised sentencepiece ModelProto of the vocabulary in ``metadata``.

    Written by hand because sentencepiece's Python bindings need protobuf only for this. Field numbers are those of
    ``src/sentencepiece_model.proto`` in google/sentencepiece. Raises FormatError.
    """
    tokens, scores, types = (_array(metadata, key) for key in ("tokens", "scores", "token_type"))
    if not len(tokens) == len(scores) == len(types):
        raise FormatError(f"the vocabulary has {len(tokens)} tokens, {len(scores)} scores and {len(types)} types")
    kinds = list(types)
    pieces = [_message(1, _piece(*entry)) for entry in zip(tokens, scores, kinds, strict=True)]
    unknown = metadata.get(_PREFIX + "unknown_token_id", 2)
    if not _is_id(unknown, len(kinds)) or kinds[unknown] != _UNKNOWN:
        raise FormatError(f"{_PREFIX}unknown_token_id is {unknown!r}, which is not the vocabulary's unknown token")
    trainer = _number(3, _UNIGRAM) + _number(4, len(pieces)) + _number(35, _BYTE in kinds) + _number(40, unknown)
    normalizer = (
        _message(2, _bytes(metadata, "precompiled_charsmap"))
        + _number(3, _flag(metadata, "add_space_prefix"))
        + _number(4, _flag(metadata, "remove_extra_whitespaces"))
    )
    return b"".join([*pieces, _message(2, trainer), _message(3, normalizer)])


def _piece(token: Any, score: Any, kind: Any) -> bytes:
    if not isinstance(token, str) or not isinstance(score, float) or not math.isfinite(score):
        raise FormatError(f"the vocabulary has a token {token!r} with score {score!r}")
    if not isinstance(kind, int) or not _NORMAL <= kind <= _BYTE:
        raise FormatError(f"the vocabulary's token {token!r} has type {kind!r}, not {_NORMAL} to {_BYTE}")
    return _message(1, token.encode("utf-8", "surrogateescape")) + b"\x15" + struct.pack("<f", score) + _number(3, kind)


def _array(metadata: Mapping[str, Any], key: str) -> Sequence[Any]:
    value = metadata.get(_PREFIX + key)
    if not hasattr(value, "__len__") or isinstance(value, str):
        raise FormatError(f"{_PREFIX}{key} is missing or not an array; the file has no vocabulary")
    items: Sequence[Any] = value.tolist() if hasattr(value, "tolist") else value
    return items


def _bytes(metadata: Mapping[str, Any], key: str) -> bytes:
    value = metadata.get(_PREFIX + key, b"")
    try:
        # gguf knows signed and unsigned bytes, and files have both
        return bytes(value) if isinstance(value, bytes | memoryview) else bytes(item & 255 for item in value)
    except TypeError as error:
        raise FormatError(f"{_PREFIX}{key} is not an array of bytes") from error


def _flag(metadata: Mapping[str, Any], key: str) -> bool:
    value = metadata.get(_PREFIX + key, True)
    if not isinstance(value, bool):
        raise FormatError(f"{_PREFIX}{key} is {value!r}, not true or false")
    return value


def _is_id(value: Any, size: int) -> bool:
    return isinstance(value, int) and 0 <= value < size


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _message(field: int, payload: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(payload)) + payload


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… (and {len(text) - _SHOWN} more characters)"
