"""A picture of latents shows where something is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from wanrun.decoders.preview import decoded_picture, picture
from wanrun.types import Frame, Resource


@pytest.mark.parametrize("channels", [16, 48])
def test_a_picture_has_a_pixel_for_each_position_and_shows_what_stands_out(channels: int) -> None:
    latents = torch.zeros(channels, 3, 4, 6)
    latents[:, 1, 1, 2] = torch.linspace(1, 2, channels)
    pixels = picture(latents)
    assert pixels.shape == (4, 6, 3)
    assert pixels.dtype == np.uint8
    difference = np.abs(pixels.astype(int) - pixels[0, 0]).sum(axis=2)
    assert np.argwhere(difference).tolist() == [[1, 2]]


def test_nothing_and_what_is_no_number_have_a_picture_as_well() -> None:
    assert picture(torch.zeros(16, 1, 2, 2)).std() == 0
    assert picture(torch.full((16, 1, 2, 2), torch.nan)).shape == (2, 2, 3)


class Shown(Resource):
    """A Decoder that shows the first channel, a pixel for each position."""

    def frames(self, latents: Tensor) -> Iterator[Frame]:
        for frame in latents[0]:
            yield np.repeat(frame.numpy().astype(np.uint8)[..., None], 3, axis=2)

    def encode(self, frames: Iterable[Frame]) -> Tensor:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is held."""


def test_the_middle_frame_is_decoded_alone() -> None:
    latents = torch.arange(5.0)[None, :, None, None].expand(16, 5, 4, 6)
    assert np.unique(decoded_picture(latents, Shown())).tolist() == [2]
    assert decoded_picture(latents, Shown()).shape == (4, 6, 3)


@pytest.mark.parametrize(("height", "width"), [(60, 104), (61, 105), (128, 4), (1, 4096)])
def test_large_latents_are_made_small_first(height: int, width: int) -> None:
    shown = decoded_picture(torch.full((16, 1, height, width), 7.0), Shown())
    assert 0 < shown.shape[0] * shown.shape[1] <= 512
    assert np.unique(shown).tolist() == [7]
