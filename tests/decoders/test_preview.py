"""A picture of latents shows where something is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wanrun.decoders.preview import picture


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
