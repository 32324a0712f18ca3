"""Makes one video after the other with parts that stay open for the next one that needs them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import suppress
from typing import TypeVar, cast

from wanrun import pipeline, settings
from wanrun.errors import WanrunError
from wanrun.runtime.planner import Plan
from wanrun.runtime.runs import Run
from wanrun.store.durable import store_errors, write_file
from wanrun.store.store import open_store
from wanrun.types import Bundle, Decoder, Denoiser, Frame, GenerationRequest, Progress, Resource, Tally

Part = TypeVar("Part", bound=Resource)


class Series(Resource):
    """The denoiser and the decoder that the last video needed, on ``device``; a context manager."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._open: dict[str, tuple[Hashable, Resource]] = {}

    def read(self, bundle: Bundle, requests: Sequence[GenerationRequest], progress: Progress) -> None:
        """Encode all prompts while the text encoder is open once; they are found in the cache later.

        A prompt that cannot be read says so when its video is made. Without a cache nothing is done.
        """
        if not settings.size("cache"):
            return
        expanded: list[GenerationRequest] = []
        for request in requests:
            with suppress(WanrunError):
                expanded.append(pipeline.expand(bundle, request))
        with open_store().hold(), pipeline.open_encoder(bundle) as encoder:
            for index, request in enumerate(expanded):
                with suppress(WanrunError):
                    pipeline.encode(encoder, request)
                progress("encoding prompts", index + 1, len(requests))

    def frames(
        self,
        run: Run,
        bundle: Bundle,
        request: GenerationRequest,
        plan: Plan | None,
        tally: Tally,
        progress: Progress,
    ) -> Iterator[Frame]:
        """The video's frames, from wherever ``run`` stopped, as ``wanrun.runtime.generate.frames`` has them.

        Where the ``plan`` has no room for the denoiser beside the decoder, the denoiser is closed first.
        """
        from wanrun.decoders.latents import pack, unpack

        with open_store().hold():
            if run.latents.is_file():
                latents, described = unpack(run.latents)
                tally.recall(described.get("cache"))
            else:
                progress("text", 0, 0)
                with pipeline.open_encoder(bundle) as encoder:
                    conditioning = pipeline.encode(encoder, request, progress)
                progress("denoise", 0, request.steps)
                denoiser = self._denoiser(bundle, request, plan)
                latents = pipeline.denoise(denoiser, request, conditioning, progress, run, tally=tally)
                with store_errors(f"cannot write {run.latents}"):
                    write_file(run.latents, pack(latents, pipeline.provenance(bundle, request, tally)))
            if not _roomy(plan):
                self._drop("denoiser")
            progress("decode", 0, request.frames)
            yield from pipeline.decode(self._decoder(bundle, request), request, latents, progress)

    def close(self) -> None:
        """Close what is open."""
        for part in list(self._open):
            self._drop(part)

    def _denoiser(self, bundle: Bundle, request: GenerationRequest, plan: Plan | None) -> Denoiser:
        resident = None if plan is None else plan.resident
        if not _roomy(plan):
            self._drop("decoder")
        key = _files(bundle), request.lora, request.cross_frame, request.boundary, request.precision, resident
        return self._part(
            "denoiser", key, lambda: pipeline.open_denoiser(bundle, request, self._device, resident)
        )

    def _decoder(self, bundle: Bundle, request: GenerationRequest) -> Decoder:
        key = _files(bundle), request.decoder, request.precision
        return self._part("decoder", key, lambda: pipeline.open_decoder(bundle, request, self._device))

    def _part(self, part: str, key: Hashable, opener: Callable[[], Part]) -> Part:
        """The open ``part`` if it is the one called ``key``, else that one in its place."""
        if part in self._open and self._open[part][0] == key:
            return cast("Part", self._open[part][1])
        self._drop(part)
        opened = opener()
        self._open[part] = key, opened
        return opened

    def _drop(self, part: str) -> None:
        if part in self._open:
            self._open.pop(part)[1].close()


def _files(bundle: Bundle) -> Hashable:
    """What tells a model's parts from another's."""
    components = tuple(sorted((role, each.digest) for role, each in bundle.components.items()))
    return components, tuple((each.role, each.scale, each.component.digest) for each in bundle.adapters)


def _roomy(plan: Plan | None) -> bool:
    """Whether two parts may be open at once: an unplanned run is taken to have no room."""
    if plan is None:
        return False
    memory = sum(sorted(phase.memory for phase in plan.phases)[-2:])
    on_device = sum(sorted(phase.device_memory for phase in plan.phases)[-2:])
    return memory <= plan.limit and on_device <= plan.device_limit
