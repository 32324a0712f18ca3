"""Reads the vocabulary out of a sentencepiece ``.model`` file."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from sentencepiece import SentencePieceProcessor

from wanrun.errors import FormatError, InvalidRequest

_UNIGRAM = 1
_NORMAL, _UNUSED = 1, 5
_PADDING_SCORE = -10000.0


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a tokeniser needs. Types: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte."""

    tokens: list[str]
    scores: list[float]
    types: list[int]
    charsmap: bytes
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool
    eos_id: int
    unknown_id: int
    padding_id: int

    def padded(self, size: int) -> Vocabulary:
        """The vocabulary with unused tokens up to ``size``, the rows that the embedding has.

        Raises InvalidRequest when there are more tokens than rows.
        """
        missing = size - len(self.tokens)
        if missing < 0:
            raise InvalidRequest(
                f"the vocabulary has {len(self.tokens)} tokens, the embedding only {size} rows"
            )
        return Vocabulary(
            tokens=self.tokens + [f"[PAD{index}]" for index in range(len(self.tokens), size)],
            scores=self.scores + [_PADDING_SCORE] * missing,
            types=self.types + [_UNUSED] * missing,
            charsmap=self.charsmap,
            add_dummy_prefix=self.add_dummy_prefix,
            remove_extra_whitespaces=self.remove_extra_whitespaces,
            eos_id=self.eos_id,
            unknown_id=self.unknown_id,
            padding_id=self.padding_id,
        )


def read_vocabulary(model: bytes) -> Vocabulary:
    """The vocabulary of a serialised sentencepiece unigram model.

    Field numbers are those of ``src/sentencepiece_model.proto`` in google/sentencepiece; read by hand because
    sentencepiece's own bindings for it need protobuf. Raises FormatError for bytes that are no such model,
    InvalidRequest for one that a GGUF cannot describe.
    """
    try:
        processor = SentencePieceProcessor(model_proto=model)
    except (RuntimeError, ValueError) as error:  # ValueError: its message quotes what is not UTF-8
        raise FormatError(f"not a sentencepiece model: {error}") from error
    top = list(_fields(model))
    trainer = dict(_fields(b"".join(_payloads(top, 2))))
    normalizer = dict(_fields(b"".join(_payloads(top, 3))))
    if trainer.get(3, _UNIGRAM) != _UNIGRAM or trainer.get(24, 0) or not normalizer.get(5, 1):
        raise InvalidRequest(
            "the sentencepiece model must be a unigram one with whitespace as an escaped prefix; "
            "a T5 GGUF cannot say anything else"
        )
    if processor.eos_id() < 0:
        raise InvalidRequest("the sentencepiece model has no end-of-sequence token; a T5 encoder needs one")
    pieces = [dict(_fields(payload)) for payload in _payloads(top, 1)]
    return Vocabulary(
        tokens=[_text(piece.get(1, b"")) for piece in pieces],
        scores=[_float(piece.get(2, bytes(4))) for piece in pieces],
        types=[_integer(piece.get(3, _NORMAL)) for piece in pieces],
        charsmap=_bytes(normalizer.get(2, b"")),
        add_dummy_prefix=bool(normalizer.get(3, 1)),
        remove_extra_whitespaces=bool(normalizer.get(4, 1)),
        eos_id=processor.eos_id(),
        unknown_id=processor.unk_id(),
        padding_id=processor.pad_id(),
    )


def _payloads(fields: list[tuple[int, int | bytes]], number: int) -> Iterator[bytes]:
    return (value for field, value in fields if field == number and isinstance(value, bytes))


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) of a protobuf message: an int for a varint, bytes for any other kind."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        kind = key & 7
        if kind == 0:
            number, position = _varint(message, position)
            yield key >> 3, number
            continue
        if kind == 2:
            length, position = _varint(message, position)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise FormatError(
                f"the sentencepiece model has a field of wire type {kind}, which protobuf no longer has"
            )
        if position + length > len(message):
            raise FormatError("the sentencepiece model is cut short")
        yield key >> 3, message[position : position + length]
        position += length


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(message) and shift < 64:
        byte = message[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
    raise FormatError("the sentencepiece model has a number that does not end")


def _text(value: int | bytes) -> str:
    try:
        return _bytes(value).decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"the sentencepiece model has a token that is not UTF-8: {value!r}") from error


def _float(value: int | bytes) -> float:
    packed = _bytes(value)
    if len(packed) != 4:
        raise FormatError(f"the sentencepiece model has a score of {len(packed)} bytes, not 4")
    number: float = struct.unpack("<f", packed)[0]
    return number


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise FormatError(f"the sentencepiece model has the number {value} where bytes belong")
    return value


def _integer(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise FormatError(f"the sentencepiece model has bytes where a number belongs: {value!r}")
    return value
