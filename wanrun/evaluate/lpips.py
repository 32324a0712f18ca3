"""LPIPS, how different two pictures look to a network (Zhang et al. 2018, arXiv 1801.03924), on AlexNet.

The weights are not ours to ship. They are read from a safetensors file with the tensors of the package
``lpips``, ``LPIPS(net="alex").state_dict()``: five convolutions and a weight for each of their channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from wanrun.errors import FormatError
from wanrun.gguf.weights import open_weights

if TYPE_CHECKING:
    from wanrun.types import Frame

#: Name, stride, padding, and whether a 3×3 pooling of stride 2 comes before (torchvision's AlexNet).
_STAGES = (
    ("net.slice1.0", 4, 2, False),
    ("net.slice2.3", 1, 2, True),
    ("net.slice3.6", 1, 1, True),
    ("net.slice4.8", 1, 1, False),
    ("net.slice5.10", 1, 1, False),
)
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
#: The smallest picture of which the last stage still sees a pixel.
_LEAST = 31


class Lpips:
    """The distance, with the weights of one file; FormatError when they are not LPIPS's."""

    def __init__(self, path: Path) -> None:
        with open_weights(path) as weights:
            names = [f"{name}.{kind}" for name, *_ in _STAGES for kind in ("weight", "bias")]
            names += [f"lin{index}.model.1.weight" for index in range(len(_STAGES))]
            self._weights = {name: weights.tensor(name) for name in names}
        channels = 3
        for index, (name, *_) in enumerate(_STAGES):
            shape = self._weights[f"{name}.weight"].shape
            rating = self._weights[f"lin{index}.model.1.weight"].shape
            if len(shape) != 4 or shape[1] != channels or tuple(rating) != (1, shape[0], 1, 1):
                raise FormatError(f"{path}: {name!r} and its weights of channels are not those of LPIPS")
            channels = shape[0]

    @torch.inference_mode()
    def __call__(self, ours: Sequence[Frame], reference: Sequence[Frame]) -> float:
        """The mean distance of frames, 0 for equal ones; smaller ones than 31 pixels are enlarged."""
        pairs = zip(ours, reference, strict=True)
        return float(np.mean([self._distance(_picture(a), _picture(b)) for a, b in pairs]))

    def _distance(self, ours: Tensor, reference: Tensor) -> float:
        total = 0.0
        for index, (name, stride, padding, pooled) in enumerate(_STAGES):
            kernel, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
            if pooled:
                ours, reference = (F.max_pool2d(picture, 3, 2) for picture in (ours, reference))
            ours, reference = (
                F.relu(F.conv2d(picture, kernel, bias, stride, padding)) for picture in (ours, reference)
            )
            apart = (_directions(ours) - _directions(reference)).square()
            total += float(F.conv2d(apart, self._weights[f"lin{index}.model.1.weight"]).mean())
        return total


def _picture(frame: Frame) -> Tensor:
    """(1, 3, height, width), scaled as the network was trained."""
    picture = torch.from_numpy(frame.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    if min(picture.shape[2:]) < _LEAST:
        picture = F.interpolate(picture, scale_factor=_LEAST / min(picture.shape[2:]), mode="bilinear")
    shift, scale = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (_SHIFT, _SCALE))
    return (picture - shift) / scale


def _directions(features: Tensor) -> Tensor:
    return features / (features.square().sum(1, keepdim=True).sqrt() + 1e-10)
