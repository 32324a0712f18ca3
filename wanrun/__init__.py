"""Local text-to-video: pull a Wan bundle, run a prompt, share it as a Modelfile.

import wanrun

clip = wanrun.generate("wan-toy", "a red ball bouncing on a blue surface", seed=7)
clip.save("ball.mp4")
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from wanrun.errors import (
    DownloadError,
    EncoderError,
    FormatError,
    InvalidRequest,
    ModelfileError,
    ModelNotFound,
    OutOfMemoryBudget,
    PluginError,
    StoreError,
    WanrunError,
)
from wanrun.types import (
    Adapter,
    Bundle,
    Clip,
    Component,
    Decoder,
    Denoiser,
    GenerationRequest,
    Tally,
    TextEncoder,
)

if TYPE_CHECKING:
    from wanrun.types import Progress

__version__ = "0.1.0"

__all__ = [
    "Adapter",
    "Bundle",
    "Clip",
    "Component",
    "Decoder",
    "Denoiser",
    "DownloadError",
    "EncoderError",
    "FormatError",
    "GenerationRequest",
    "InvalidRequest",
    "ModelNotFound",
    "ModelfileError",
    "OutOfMemoryBudget",
    "PluginError",
    "StoreError",
    "TextEncoder",
    "WanrunError",
    "generate",
    "load",
    "load_decoder",
    "load_denoiser",
    "load_text_encoder",
]


def load(name: str) -> Bundle:
    """The bundle ``name`` of the store, or of the shipped library. Raises ModelNotFound."""
    from wanrun.store.creation import resolve
    from wanrun.store.store import open_store

    return resolve(open_store(), name)


def generate(
    model: str | Bundle,
    prompt: str,
    *,
    progress: Progress | None = None,
    device: str | None = None,
    **settings: Any,
) -> Clip:
    """A video of ``prompt``.

    ``settings`` are a Modelfile's parameters (size as (width, height) in pixels, frames, fps, steps, shift,
    guidance, guidance_high, guidance_low, guidance_start, guidance_end, guidance_rescale, sampler, schedule,
    cache, noise, cross_frame, seed, precision, decoder, flicker), ``negative``, ``seconds`` and ``lora``, a
    LoRA or several as ``[high_noise=|low_noise=]FILE[:SCALE]``; what is not given comes from the bundle. What
    a cache left out is ``clip.provenance["cache"]``. Raises InvalidRequest for settings that cannot be used,
    all of them listed.
    """
    from wanrun import pipeline
    from wanrun import settings as configured
    from wanrun.request import resolve
    from wanrun.store import loras
    from wanrun.store.store import open_store

    bundle = load(model) if isinstance(model, str) else model
    written = settings.get("lora") or ()
    wanted = map(loras.parse, [written] if isinstance(written, str) else written)
    settings["lora"] = loras.bring(open_store(), wanted, pipeline.silent)
    request = pipeline.expand(bundle, resolve(bundle, prompt, settings))
    tally = Tally()
    frames = pipeline.run(
        bundle, request, progress or pipeline.silent, device or configured.get("device"), tally
    )
    return Clip(list(frames), request.fps, pipeline.provenance(bundle, request, tally))


def load_text_encoder(source: str | Path | Component) -> TextEncoder:
    """The UMT5 encoder in a GGUF; use it as a context manager."""
    from wanrun import plugins

    encoder: TextEncoder = plugins.load("text_encoders", "umt5")(_path(source))
    return encoder


def load_denoiser(
    source: str | Path | Component | Bundle, device: str = "auto", precision: str = "auto"
) -> Denoiser:
    """One transformer, or a bundle's experts with its adapters; use it as a context manager."""
    from wanrun import pipeline, plugins

    if isinstance(source, Bundle):
        return pipeline.open_experts(source, source.parameters.get("boundary"), device, precision)
    backend = plugins.load("backends", "torch")
    denoiser: Denoiser = backend({"diffusion": _path(source)}, None, device, precision)
    return denoiser


def load_decoder(source: str | Path | Component, device: str = "auto", precision: str = "auto") -> Decoder:
    """A VAE, full or tiny by what the file is; use it as a context manager."""
    from wanrun import plugins
    from wanrun.gguf.header import read_header
    from wanrun.wan.detect import identify

    path = _path(source)
    kind = "tiny" if identify(read_header(path)).kind == "tiny" else "vae"
    decoder: Decoder = plugins.load("decoders", kind)(path, device, precision)
    return decoder


def _path(source: str | Path | Component) -> Path:
    return source.path if isinstance(source, Component) else Path(source)
