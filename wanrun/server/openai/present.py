"""Shows a job as OpenAI's video object, with an integer for its progress and a time to ask again."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

from wanrun.errors import WanrunError
from wanrun.server.job import Job
from wanrun.server.jobs import Jobs
from wanrun.server.openai.answers import AppliedLora, Details, Video, VideoError, VideoStatus
from wanrun.video.provenance import read_provenance

#: Where each phase begins and ends, in percent: most of the time goes into denoising.
_SHARES = {"text": (0, 2), "denoise": (2, 85), "decode": (85, 99)}
#: A client that waits asks about so many times until the phase is over, within these milliseconds.
_ASKS = 20
_SOONEST_MS, _LATEST_MS = 500, 15_000
_USUAL_MS = 1000


def video(job: Job, jobs: Jobs, expire_s: float) -> Video:
    """The job's video object; a finished one is kept ``expire_s`` seconds."""
    request, finished = job.request, job.finished
    completed = job.status == "completed"
    return Video(
        id=job.id,
        model=job.model,
        status=status(job),
        progress=progress(job),
        created_at=int(job.created),
        completed_at=int(finished) if completed and finished else None,
        expires_at=int(finished + expire_s) if completed and finished else None,
        prompt=request.prompt,
        size=f"{request.width}x{request.height}",
        seconds=f"{request.frames / request.fps:.6g}",
        error=VideoError(code="generation_failed", message=job.error or "")
        if job.status == "failed"
        else None,
        wanrun=_details(job, jobs),
    )


def status(job: Job) -> VideoStatus:
    """OpenAI's word for the job's status."""
    return "in_progress" if job.status == "running" else job.status


def progress(job: Job) -> int:
    """Percent, 0 to 100; 100 only once the video can be fetched."""
    if job.status == "completed":
        return 100
    if job.phase not in _SHARES:
        return 0
    begin, end = _SHARES[job.phase]
    return begin + (end - begin) * min(job.step, job.total) // job.total if job.total else begin


def poll_after_ms(job: Job, now: float | None = None) -> int:
    """When there will be something new: soon near the end of a phase, and later in one that takes hours.

    Without an estimate, what has lasted until ``now``, in seconds since 1970, is taken to last as long again.
    """
    if job.over:
        return _USUAL_MS
    left_s, soonest = job.left_s, _SOONEST_MS
    if left_s is None or job.status == "queued":
        left_s, soonest = (time.time() if now is None else now) - (job.started or job.created), _USUAL_MS
    return min(_LATEST_MS, max(soonest, round(1000 * left_s / _ASKS)))


def _details(job: Job, jobs: Jobs) -> Details:
    request = job.request
    completed = job.status == "completed"
    digest, skipped = _provenance(jobs.video(job)) if completed else (None, None)
    return Details(
        format=job.format,
        width=request.width,
        height=request.height,
        frames=request.frames,
        fps=request.fps,
        steps=request.steps,
        guidance=request.guidance_high,
        guidance_low=request.guidance_low,
        shift=request.shift,
        boundary=request.boundary,
        sampler=request.sampler,
        schedule=request.schedule,
        guidance_start=request.guidance_start,
        guidance_end=request.guidance_end,
        guidance_rescale=request.guidance_rescale,
        cache=request.cache,
        noise=request.noise,
        cross_frame=request.cross_frame,
        compose=request.compose,
        flicker=request.flicker,
        expand=request.expand,
        seed=request.seed,
        negative_prompt=request.negative,
        precision=request.precision,
        decoder=request.decoder,
        lora=[AppliedLora(**asdict(each)) for each in request.lora],
        notes=list(request.notes),
        priority=job.priority,
        queue_position=jobs.position(job),
        phase=job.phase,
        step=job.step,
        total=job.total,
        rate=job.rate,
        seconds_left=job.left_s,
        cancelling=job.cancelling and not job.over,
        bytes=job.size,
        provenance=digest,
        skipped=skipped,
    )


@lru_cache(maxsize=4096)
def _provenance(path: Path) -> tuple[str | None, float | None]:
    """Its digest, and what the cache left out; a finished video never changes: it is read once."""
    try:
        described = read_provenance(path)
    except WanrunError:
        return None, None
    text = json.dumps(described, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest(), float(described.get("cache", {}).get("share", 0.0))
