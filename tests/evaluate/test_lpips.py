"""LPIPS with random weights is what its paper's sums give, written out in numpy; other files are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from wanrun.errors import FormatError
from wanrun.evaluate.lpips import Lpips

Weights = dict[str, NDArray[np.float32]]
#: Name, kernel, stride, padding and pooling of AlexNet's convolutions; the channels here are few.
STAGES = (
    ("net.slice1.0", 11, 4, 2, False),
    ("net.slice2.3", 5, 1, 2, True),
    ("net.slice3.6", 3, 1, 1, True),
    ("net.slice4.8", 3, 1, 1, False),
    ("net.slice5.10", 3, 1, 1, False),
)


def weights() -> Weights:
    generator, channels = np.random.default_rng(0), 3
    made: Weights = {}
    for index, (name, kernel, *_) in enumerate(STAGES):
        out = 4 + index
        scale = (channels * kernel**2) ** -0.5
        made[f"{name}.weight"] = (scale * generator.standard_normal((out, channels, kernel, kernel))).astype(
            "f4"
        )
        made[f"{name}.bias"] = (0.1 * generator.standard_normal(out)).astype("f4")
        made[f"lin{index}.model.1.weight"] = generator.random((1, out, 1, 1)).astype("f4")
        channels = out
    return made


def windows(picture: NDArray[np.float64], size: int, stride: int) -> NDArray[np.float64]:
    """(channels, rows, columns, size, size)"""
    view = np.lib.stride_tricks.sliding_window_view(picture, (size, size), (1, 2))
    return view[:, ::stride, ::stride]


def features(frame: NDArray[np.uint8], of: Weights) -> list[NDArray[np.float64]]:
    scaled = frame.astype(float) / 127.5 - 1
    x = ((scaled - [-0.030, -0.088, -0.188]) / [0.458, 0.448, 0.450]).transpose(2, 0, 1)
    found = []
    for name, size, stride, padding, pooled in STAGES:
        if pooled:
            x = windows(x, 3, 2).max((3, 4))
        x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
        x = np.einsum("chwij,ocij->ohw", windows(x, size, stride), of[f"{name}.weight"].astype(float))
        x = np.maximum(x + of[f"{name}.bias"][:, None, None], 0)
        found.append(x)
    return found


def test_the_distance_is_the_sum_written_out(tmp_path: Path) -> None:
    of, path = weights(), tmp_path / "lpips.safetensors"
    save_file(of, str(path))
    generator = np.random.default_rng(1)
    one, other = (generator.integers(0, 256, (64, 72, 3), np.uint8) for _ in range(2))
    expected = 0.0
    for index, pair in enumerate(zip(features(one, of), features(other, of), strict=True)):
        a, b = (x / (np.sqrt((x**2).sum(0)) + 1e-10) for x in pair)
        expected += float(
            np.einsum("chw,c->hw", (a - b) ** 2, of[f"lin{index}.model.1.weight"].ravel()).mean()
        )
    measure = Lpips(path)
    assert measure([one], [other]) == pytest.approx(expected, rel=1e-4)
    assert expected > 0.01
    assert measure([one], [one]) == 0
    small = np.zeros((16, 16, 3), np.uint8)
    assert measure([small, small], [small, small]) == 0


def test_other_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    for name, shape in (("net.slice2.3.weight", (5, 3, 5, 5)), ("lin4.model.1.weight", (1, 3, 1, 1))):
        save_file(weights() | {name: np.zeros(shape, np.float32)}, str(path))
        with pytest.raises(FormatError, match="LPIPS"):
            Lpips(path)
    few = weights()
    del few["lin0.model.1.weight"]
    save_file(few, str(path))
    with pytest.raises(FormatError, match="lin0"):
        Lpips(path)
