"""The torch backend: one or two experts behind one Denoiser, one of them in memory at a time."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from wanrun import settings
from wanrun.diffusion.prompts import Prompts
from wanrun.diffusion.streaming import distribute
from wanrun.errors import InvalidRequest
from wanrun.gguf.mapping import prefetch
from wanrun.gguf.policy import Policy
from wanrun.gguf.probe import Memory
from wanrun.gguf.weights import open_weights
from wanrun.types import Adapter, Resource
from wanrun.wan.config import PATCH
from wanrun.wan.crossframe import strengthen
from wanrun.wan.devices import pick_device, pick_dtype
from wanrun.wan.load import fuse_gelu, load_transformer
from wanrun.wan.lora import adapt
from wanrun.wan.model import Walk, WanModel, straight

#: Up to this many tokens the branches of guidance go through the blocks side by side, so that a weight is
#: unpacked once for all of them. With more, unpacking is no longer worth the memory of their activations.
_SIDE_BY_SIDE_TOKENS = 4096
#: So many contexts of one clip are side by side up to that.
_BRANCHES = 2
#: The next step may be this much longer than the last one, as steps grow with falling noise.
_STEP_GROWTH = 2.0


#: Told the role of an expert that was read and the model, before its first use: to watch or to change it.
OnLoad: TypeAlias = Callable[[str, WanModel], None]


class Experts(Resource):
    """A Denoiser over ``files`` by role: one ``diffusion``, or ``high_noise`` and ``low_noise``.

    A mixture switches at timestep 1000·``boundary`` (Wan2.2 wan/text2video.py): high noise at and above it.
    """

    def __init__(
        self,
        files: Mapping[str, Path],
        boundary: float | None,
        device: str,
        precision: str,
        resident_bytes: int | None = None,
        adapters: Sequence[Adapter] = (),
        on_load: OnLoad | None = None,
        cross_frame: float = 0.0,
    ) -> None:
        self._files, self._adapters = dict(files), tuple(adapters)
        self._boundary, self._cross_frame = boundary, cross_frame
        self._device = pick_device(device)
        self._dtype = pick_dtype(precision, self._device)
        if precision == "int8" and torch.device(self._device).type != "cpu":
            raise InvalidRequest(f"precision int8 is for the CPU, not for {self._device}; use bf16")
        self._precision, self._resident_bytes = precision, resident_bytes
        self._on_load = on_load
        self._compiled = self._device != "cpu" and settings.compiled()
        self._loaded: tuple[str, WanModel, Prompts] | None = None
        self._last: float | None = None

    def _expert(self, timestep: float) -> tuple[WanModel, Prompts]:
        role = "diffusion"
        if self._boundary is not None:
            role = "high_noise" if timestep >= 1000 * self._boundary else "low_noise"
        if self._loaded is None or self._loaded[0] != role:
            self.close()  # before the next one loads: two never fit where one just does
            model = self._load(role)
            self._loaded = role, model, Prompts(model)
        if role == "high_noise":
            self._look_ahead(timestep)
        return self._loaded[1:]

    def _load(self, role: str) -> WanModel:
        streamed = self._resident_bytes is not None and torch.device(self._device).type != "cpu"
        with open_weights(self._files[role]) as weights:
            if streamed:
                model = load_transformer(weights, "cpu", self._dtype)
            else:
                model = load_transformer(weights, self._device, self._dtype, self._policy())
        self._adapt(model, role)
        fuse_gelu(model)
        if self._on_load is not None:
            self._on_load(role, model)
        if self._cross_frame:
            strengthen(model, self._cross_frame)
        if streamed:
            distribute(model, self._device, self._resident_bytes or 0)
        if self._compiled:
            compile_blocks(model)
        return model

    def _adapt(self, model: WanModel, role: str) -> None:
        with ExitStack() as opened:
            adapt(
                model,
                [
                    (opened.enter_context(open_weights(adapter.component.path)), adapter.scale)
                    for adapter in self._adapters
                    if adapter.serves(role)
                ],
            )

    def _policy(self) -> Policy:
        rates = Memory(settings.home() / "cache").rates
        exact = self._precision == "fp32"
        return Policy(self._resident_bytes or 0, None if exact else rates, self._precision == "int8")

    def _look_ahead(self, timestep: float) -> None:
        """Have the low-noise expert's file read while the last step before it is computed."""
        assert self._boundary is not None
        last, self._last = self._last, timestep
        if last is None or not timestep < last:
            return
        if timestep - _STEP_GROWTH * (last - timestep) < 1000 * self._boundary:
            prefetch(self._files["low_noise"])

    def velocity(
        self, latents: Tensor, timestep: float | Tensor, context: Tensor, condition: Tensor | None = None
    ) -> Tensor:
        """See ``wanrun.types.Denoiser``; the result lies where ``latents`` lie.

        Raises InvalidRequest for latents, a context or a condition of other dimensions than the model's.
        """
        return self.velocities(latents, timestep, [context], condition)[0]

    def walked(
        self,
        latents: Tensor,
        timestep: float | Tensor,
        contexts: Sequence[Tensor],
        condition: Tensor | None,
        walk: Walk,
    ) -> list[Tensor]:
        """See ``wanrun.types.BlockDenoiser``; raises as ``velocity``."""
        return self._velocities(latents, timestep, contexts, condition, walk)

    def velocities(
        self,
        latents: Tensor,
        timestep: float | Tensor,
        contexts: Sequence[Tensor],
        condition: Tensor | None = None,
    ) -> list[Tensor]:
        """The velocity for each of ``contexts``, as ``velocity`` has it and raises.

        Short clips go through the model side by side, so that each weight is unpacked once for all contexts.
        ``latents`` may be a clip for each context, (contexts, channels, frames, height, width).
        """
        return self._velocities(latents, timestep, contexts, condition, straight)

    @torch.inference_mode()
    def _velocities(
        self,
        latents: Tensor,
        timestep: float | Tensor,
        contexts: Sequence[Tensor],
        condition: Tensor | None,
        walk: Walk,
    ) -> list[Tensor]:
        steps = torch.as_tensor(timestep, dtype=torch.float32).reshape(1, -1)
        model, prompts = self._expert(float(steps.max()))
        clips = latents if latents.ndim == 5 else latents[None]
        if len(clips) not in (1, len(contexts)):
            raise InvalidRequest(f"{len(clips)} clips for {len(contexts)} contexts: give one, or one each")
        for context in contexts:
            _check(model, clips[0], steps, context, condition)
        if condition is not None:
            clips = torch.cat([clips, condition.to(clips).expand(len(clips), *condition.shape)], 1)
        inputs = clips.to(self._device, torch.float32).expand(len(contexts), *clips.shape[1:])
        steps = steps.to(self._device)
        together = max(1, _SIDE_BY_SIDE_TOKENS // _tokens(clips[0]) * _BRANCHES)
        found: list[Tensor] = []
        for first in range(0, len(contexts), together):
            some = contexts[first : first + together]
            wide = inputs[first : first + together]
            velocities: Tensor = model(wide, steps.expand(len(some), -1), prompts.read(some), walk)
            found += velocities.to(latents.device)
        return found

    def close(self) -> None:
        """Drop the loaded expert."""
        self._loaded = None
        if self._compiled:
            gc.collect()  # compiled blocks refer to themselves


def compile_blocks(model: WanModel) -> None:
    """Fuse what each block does, unpacking its weights included; streaming, by its hooks, stays outside."""
    for block in model.blocks:
        block.forward = torch.compile(block.forward)


def _tokens(latents: Tensor) -> int:
    return latents[0].numel() // (PATCH[0] * PATCH[1] * PATCH[2])


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
    files: Mapping[str, Path],
    boundary: float | None = None,
    device: str = "auto",
    precision: str = "auto",
    resident_bytes: int | None = None,
    adapters: Sequence[Adapter] = (),
    on_load: OnLoad | None = None,
    cross_frame: float = 0.0,
) -> Experts:
    """The experts in ``files`` by role; each is read when its first timestep comes, with its ``adapters``.

    ``resident_bytes`` may be spent on keeping what is needed at each step: on the CPU on matrices that stay
    unpacked, none without it; elsewhere on blocks that stay on the device, all without it.
    ``cross_frame`` strengthens attention across frames (see ``wanrun.wan.crossframe``). Raises InvalidRequest
    when the roles do not make a model, a mixture has no boundary, or the bytes are negative.
    """
    if resident_bytes is not None and resident_bytes < 0:
        raise InvalidRequest(f"resident_bytes is {resident_bytes}; give a number from 0, or None")
    if set(files) not in ({"diffusion"}, {"high_noise", "low_noise"}):
        raise InvalidRequest(
            f"a model has one diffusion file, or high_noise and low_noise; not {sorted(files)}"
        )
    if len(files) == 2 and boundary is None:
        raise InvalidRequest("two experts need the boundary at which they switch, such as 0.875")
    switch = boundary if len(files) == 2 else None
    return Experts(files, switch, device, precision, resident_bytes, adapters, on_load, cross_frame)
