"""Encodes text with UMT5: tokens by sentencepiece, rows by llama.cpp in a process of its own."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wanrun import settings
from wanrun.errors import EncoderError, FormatError, InvalidRequest
from wanrun.gguf.layout import TensorInfo, Value
from wanrun.gguf.reader import read_gguf
from wanrun.text.child import Child
from wanrun.text.clean import clean
from wanrun.text.frames import IDS, READY, ROWS
from wanrun.text.tokenizer import Tokenizer
from wanrun.types import Resource

ARCHITECTURE = "t5encoder"


class UMT5Encoder(Resource):
    """A ``wanrun.types.TextEncoder`` that holds a llama.cpp process until it is closed."""

    def __init__(self, tokenizer: Tokenizer, child: Child, width: int) -> None:
        self._tokenizer = tokenizer
        self._child = child
        #: Features per row.
        self.width = width

    @property
    def pid(self) -> int:
        """The id of the process that holds the weights."""
        return self._child.pid

    def tokenize(self, text: str) -> list[int]:
        """Token ids of the cleaned text, end-of-sequence id included, at most 512; a cut is warned of."""
        return self._tokenizer.encode(clean(text))

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Of each token, without the end-of-sequence, the characters of the cleaned text; none is cut."""
        return self._tokenizer.spans(clean(text))

    def encode(self, text: str) -> Tensor:
        """(tokens ≤ 512, width) float32 on the CPU: true tokens only, end-of-sequence row included.

        Raises EncoderError when the process crashes, is killed, takes too long or gives no usable values.
        """
        ids = np.array(self.tokenize(text), dtype=np.int32)
        payload = self._child.ask(IDS, ids.tobytes(), ROWS)
        if len(payload) != ids.size * self.width * 4:
            raise EncoderError(
                f"the text encoder sent {len(payload)} bytes for {ids.size} rows of {self.width}"
            )
        rows = np.frombuffer(payload, dtype=np.float32).reshape(ids.size, self.width).copy()
        if not np.isfinite(rows).all():
            raise EncoderError(
                "the text encoder's values overflowed, as UMT5's can in F16; "
                "use a BF16, Q8_0 or smaller file of it"
            )
        return torch.from_numpy(rows)

    def close(self) -> None:
        """End the process; its memory is free when this returns."""
        self._child.close()


def load(path: str | Path, threads: int | None = None, timeout_s: float = 900.0) -> UMT5Encoder:
    """The UMT5 encoder in the GGUF at ``path``, on the CPU, with ``threads`` threads (None: the setting).

    ``timeout_s`` bounds loading, and then each prompt. Raises ModelNotFound, InvalidRequest for a model that
    is no UMT5 encoder, FormatError for a damaged file, EncoderError when llama.cpp cannot load it.
    """
    path = Path(path)
    header = read_gguf(path)
    width = check(path.name, header.metadata, header.tensors)
    tokenizer = Tokenizer.from_metadata(header.metadata)
    child = Child(path.absolute(), threads or settings.threads(), timeout_s)
    try:
        (loaded,) = struct.unpack("=I", child.receive(READY))
        if loaded != width:
            raise EncoderError(
                f"llama.cpp sees a width of {loaded} in {path.name}, whose header says {width}"
            )
    except BaseException:
        child.close()
        raise
    return UMT5Encoder(tokenizer, child, width)


def check(name: str, metadata: Mapping[str, Value], tensors: Mapping[str, TensorInfo]) -> int:
    """The width of the UMT5 encoder that a GGUF's header describes.

    UMT5 has a relative position bias in every layer, where T5 and mT5 share the first layer's: the one thing
    that tells their files apart. Raises InvalidRequest for another model, FormatError for a header that is
    incomplete.
    """
    architecture = metadata.get("general.architecture")
    if architecture != ARCHITECTURE:
        raise InvalidRequest(f"{name} holds a {architecture!r} model, not a text encoder ({ARCHITECTURE!r})")
    width, layers = (metadata.get(f"{ARCHITECTURE}.{key}") for key in ("embedding_length", "block_count"))
    if not isinstance(width, int) or not isinstance(layers, int) or width < 1 or layers < 1:
        raise FormatError(f"{name} gives an embedding length of {width!r} and a block count of {layers!r}")
    biases = sum(key.startswith("enc.blk.") and key.endswith(".attn_rel_b.weight") for key in tensors)
    if biases != layers:
        raise InvalidRequest(
            f"{name} is a T5, not a UMT5: {biases} of its {layers} layers have their own position bias; "
            "Wan needs the UMT5 encoder"
        )
    return width
