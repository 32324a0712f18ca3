"""The torch backend: one or two experts behind one Denoiser, one of them in memory at a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from wanrun.errors import InvalidRequest
from wanrun.gguf.weights import open_weights
from wanrun.types import Resource
from wanrun.wan.context import fold_padding
from wanrun.wan.devices import pick_device, pick_dtype
from wanrun.wan.load import load_transformer
from wanrun.wan.model import WanModel


class Experts(Resource):
    """A Denoiser over ``files`` by role: one ``diffusion``, or ``high_noise`` and ``low_noise``.

    A mixture switches at timestep 1000·``boundary`` (Wan2.2 wan/text2video.py): high noise at and above it.
    """

    def __init__(
        self, files: Mapping[str, Path], boundary: float | None, device: str, precision: str
    ) -> None:
        self._files = dict(files)
        self._boundary = boundary
        self._device = pick_device(device)
        self._dtype = pick_dtype(precision, self._device)
        self._loaded: tuple[str, WanModel] | None = None

    def _expert(self, timestep: float) -> WanModel:
        role = "diffusion"
        if self._boundary is not None:
            role = "high_noise" if timestep >= 1000 * self._boundary else "low_noise"
        if self._loaded is None or self._loaded[0] != role:
            self._loaded = None  # before the next one loads: two never fit where one just does
            with open_weights(self._files[role]) as weights:
                self._loaded = role, load_transformer(weights, self._device, self._dtype)
        return self._loaded[1]

    @torch.inference_mode()
    def velocity(
        self, latents: Tensor, timestep: float | Tensor, context: Tensor, condition: Tensor | None = None
    ) -> Tensor:
        """See ``wanrun.types.Denoiser``; the result lies where ``latents`` lie.

        Raises InvalidRequest for latents, a context or a condition of other dimensions than the model's.
        """
        steps = torch.as_tensor(timestep, dtype=torch.float32).reshape(1, -1)
        model = self._expert(float(steps.max()))
        _check(model, latents, steps, context, condition)
        inputs = latents if condition is None else torch.cat([latents, condition.to(latents)])
        prompt = fold_padding([context.to(self._device, torch.float32)])
        velocity: Tensor = model(inputs.to(self._device, torch.float32)[None], steps.to(self._device), prompt)
        return velocity[0].to(latents.device)

    def close(self) -> None:
        """Drop the loaded expert."""
        self._loaded = None


def _check(
    model: WanModel, latents: Tensor, steps: Tensor, context: Tensor, condition: Tensor | None
) -> None:
    config = model.config
    channels = config.in_channels - (0 if condition is None else condition.shape[0])
    if latents.ndim != 4 or latents.shape[0] != channels:
        raise InvalidRequest(
            f"latents have shape {tuple(latents.shape)}, expected ({channels}, frames, height, width)"
        )
    if channels != config.out_channels:
        raise InvalidRequest(
            f"this is an image-to-video model: it needs a condition of {config.condition_channels} channels"
        )
    if latents.shape[2] % 2 or latents.shape[3] % 2:
        raise InvalidRequest(
            f"latents of {latents.shape[3]}×{latents.shape[2]} do not split into 2×2 patches"
        )
    if steps.shape[1] not in (1, latents.shape[1]):
        raise InvalidRequest(
            f"{steps.shape[1]} timesteps for {latents.shape[1]} latent frames: give one, or one each"
        )
    if context.ndim != 2 or context.shape[1] != config.text_width:
        raise InvalidRequest(
            f"the context has shape {tuple(context.shape)}, expected (tokens, {config.text_width})"
        )


def load(
    files: Mapping[str, Path], boundary: float | None = None, device: str = "auto", precision: str = "auto"
) -> Experts:
    """The experts in ``files`` by role; each is read when its first timestep comes.

    Raises InvalidRequest when the roles do not make a model, or a mixture has no boundary.
    """
    if set(files) not in ({"diffusion"}, {"high_noise", "low_noise"}):
        raise InvalidRequest(
            f"a model has one diffusion file, or high_noise and low_noise; not {sorted(files)}"
        )
    if len(files) == 2 and boundary is None:
        raise InvalidRequest("two experts need the boundary at which they switch, such as 0.875")
    return Experts(files, boundary if len(files) == 2 else None, device, precision)
