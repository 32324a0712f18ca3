"""Several decoders as one: where memory does not suffice for the first, the next one goes on."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from logging import getLogger

from torch import Tensor

from wanrun.decoders.stream import out_of_memory
from wanrun.errors import OutOfMemoryBudget
from wanrun.types import Decoder, Frame, Resource

_log = getLogger(__name__)


class Fallback(Resource):
    """A Decoder over named ``openers``, each used when the one before it has run out of memory.

    Only one decoder is open at a time. Frames that were made are not made again: the video changes its
    decoder where the memory ran out.
    """

    def __init__(self, openers: Iterable[tuple[str, Callable[[], Decoder]]]) -> None:
        self._waiting = list(openers)
        self._decoder: Decoder | None = None

    def _open(self) -> Decoder:
        if self._decoder is None:
            self._decoder = self._waiting[0][1]()
        return self._decoder

    def frames(self, latents: Tensor) -> Iterator[Frame]:
        """uint8 frames of (channels, frames, height, width) latents, made as they are asked for."""
        made = 0
        while True:
            try:
                for frame in islice(self._open().frames(latents), made, None):
                    yield frame
                    made += 1
                return
            except (OutOfMemoryBudget, RuntimeError, MemoryError) as error:
                if len(self._waiting) == 1 or not _for_want_of_memory(error):
                    raise
            self._give_up(made)

    def _give_up(self, made: int) -> None:
        self.close()
        name, _ = self._waiting.pop(0)
        gc.collect()  # the failure's traceback holds what was being computed
        _log.warning(
            "the decoder %s does not fit in memory; going on with %s after %d frames",
            name, self._waiting[0][0], made,
        )  # fmt: skip

    def encode(self, frames: Iterable[Frame]) -> Tensor:
        """Latents of 4k+1 frames, by the decoder in use."""
        return self._open().encode(frames)

    def close(self) -> None:
        """Drop the weights."""
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None


def _for_want_of_memory(error: BaseException) -> bool:
    return isinstance(error, OutOfMemoryBudget) or out_of_memory(error)
