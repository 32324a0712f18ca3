"""Pictures of a video while it is made: by the tiny decoder where the model has one, else of the latents."""

from __future__ import annotations

from time import monotonic as now
from typing import TYPE_CHECKING

from wanrun import plugins
from wanrun.errors import WanrunError
from wanrun.types import Bundle, Decoder, Frame, Resource

if TYPE_CHECKING:
    from torch import Tensor

#: A picture is taken this often at most, and takes at most this part of the time.
_EVERY_S = 0.5
_SHARE = 0.03


class Previews(Resource):
    """Takes pictures of one run's latents; opens its decoder with the first."""

    def __init__(self, bundle: Bundle, device: str, precision: str) -> None:
        self._tiny, self._device, self._precision = bundle.components.get("preview"), device, precision
        self._decoder: Decoder | None = None
        self._next = 0.0

    def take(self, clean: Tensor) -> bytes | None:
        """A PNG of what (channels, frames, height, width) latents will become; None if it is too soon."""
        from wanrun.video.png import encode_png

        begun = now()
        if begun < self._next:
            return None
        data = encode_png(self._picture(clean))
        ended = now()
        self._next = ended + max(_EVERY_S, (ended - begun) / _SHARE)
        return data

    def close(self) -> None:
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None

    def _picture(self, clean: Tensor) -> Frame:
        from wanrun.decoders.preview import decoded_picture, picture

        try:
            decoder = self._open()
            if decoder is not None:
                return decoded_picture(clean, decoder)
        except WanrunError:
            self._tiny = None  # the run must not fail for want of a picture
            self.close()
        return picture(clean)

    def _open(self) -> Decoder | None:
        if self._decoder is None and self._tiny is not None:
            load = plugins.load("decoders", "tiny")
            self._decoder = load(self._tiny.path, self._device, self._precision)
        return self._decoder
