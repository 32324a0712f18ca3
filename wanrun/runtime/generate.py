"""Makes a video such that nothing is lost: every step and the latents are on disk before the next stage."""

from __future__ import annotations

from collections.abc import Iterator

from wanrun import pipeline
from wanrun.runtime import timings
from wanrun.runtime.estimate import evaluations
from wanrun.runtime.runs import Run
from wanrun.runtime.timings import Stopwatch
from wanrun.store.durable import store_errors, write_file
from wanrun.store.store import open_store
from wanrun.types import Bundle, Frame, GenerationRequest, OnStep, Progress, Tally


def frames(
    run: Run,
    bundle: Bundle,
    request: GenerationRequest,
    progress: Progress,
    device: str,
    resident_bytes: int | None = None,
    on_step: OnStep | None = None,
    tally: Tally | None = None,
) -> Iterator[Frame]:
    """The video's frames, from wherever ``run`` stopped; the last three as in ``pipeline``.

    What a whole run took is kept in ``timings``.
    """
    from wanrun.decoders.latents import pack, unpack
    from wanrun.wan.devices import pick_device

    tally = tally or Tally()
    whole = not run.started
    progress = watch = Stopwatch(progress, on_cpu=pick_device(device) == "cpu")
    with open_store().hold():
        if run.latents.is_file():
            latents, described = unpack(run.latents)
            tally.recall(described.get("cache"))
        else:
            latents = pipeline.prompt_to_latents(
                bundle, request, progress, device, run, resident_bytes, on_step, tally
            )
            with store_errors(f"cannot write {run.latents}"):
                write_file(run.latents, pack(latents, pipeline.provenance(bundle, request, tally)))
        yield from pipeline.latents_to_frames(bundle, request, latents, progress, device)
    taken = watch.taken(sum(evaluations(request)))
    if whole and taken is not None and request.cache == "none":
        timings.keep(bundle, request, device, taken)
