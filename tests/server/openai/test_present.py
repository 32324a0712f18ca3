"""A job as OpenAI's object: its status, an integer for its progress, and when to ask again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.server.orders import REQUEST, order
from wanrun.server.claims import Claims
from wanrun.server.job import Job
from wanrun.server.jobs import Jobs
from wanrun.server.openai.present import poll_after_ms, progress, video

RUNNING = Job(
    id="video_" + "0" * 24,
    model="wan-toy:latest",
    request=REQUEST,
    priority=0,
    key=None,
    format="mp4",
    status="running",
    created=0.0,
    started=0.0,
    finished=None,
    phase="",
    step=0,
    total=0,
    rate=None,
    left_s=None,
    error=None,
    run_id=None,
    output=None,
    size=None,
    attempts=1,
    cancelling=False,
)


def test_progress_grows_from_phase_to_phase() -> None:
    job = RUNNING
    steps = [("", 0, 0), ("text", 0, 0), ("text", 1, 2), ("text", 2, 2)]
    steps += [("denoise", step, 40) for step in range(41)] + [("decode", frame, 17) for frame in range(18)]
    shown = [progress(replace(job, phase=phase, step=step, total=total)) for phase, step, total in steps]
    assert shown == sorted(shown)
    assert (shown[0], shown[-1]) == (0, 99)
    assert len(set(shown)) > 40
    assert progress(replace(job, status="completed")) == 100


@given(
    st.sampled_from(["", "text", "denoise", "decode", "another"]),
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    st.none() | st.floats(0, 1e12),
)
def test_numbers_are_within_their_ranges(phase: str, step: int, total: int, left_s: float | None) -> None:
    job = replace(RUNNING, phase=phase, step=step, total=total, left_s=left_s)
    assert 0 <= progress(job) <= 99
    assert 500 <= poll_after_ms(job) <= 15_000


def test_who_waits_for_long_asks_seldom() -> None:
    asked = [poll_after_ms(replace(RUNNING, left_s=left_s)) for left_s in (0.1, 40.0, 100.0, 7200.0)]
    assert asked == [500, 2000, 5000, 15_000]
    waiting = replace(RUNNING, status="queued", started=None, created=100.0)
    assert [poll_after_ms(waiting, now) for now in (100.0, 160.0, 9000.0)] == [1000, 3000, 15_000]
    assert poll_after_ms(replace(waiting, status="completed"), 9000.0) == 1000


def test_the_object_says_how_a_job_ended(jobs: Jobs) -> None:
    job = jobs.create(order(negative="blurry"))
    claims = Claims(jobs)
    claimed = claims.next()
    assert claimed is not None
    running = video(claimed, jobs, 60.0)
    assert (running.status, running.wanrun.queue_position) == ("in_progress", None)
    failed = video(claims.stop(claimed, "failed", "out of memory"), jobs, 60.0)
    claims.close()
    assert (failed.id, failed.status, failed.progress) == (job.id, "failed", 0)
    assert failed.error is not None
    assert (failed.error.code, failed.error.message) == ("generation_failed", "out of memory")
    assert (failed.completed_at, failed.expires_at) == (None, None)
    assert failed.wanrun.negative_prompt == "blurry"


def test_the_position_follows_priority_and_age(jobs: Jobs) -> None:
    made = [jobs.create(order(priority=priority)) for priority in (0, 5, 0, -5, 5)]
    assert [video(job, jobs, 0).wanrun.queue_position for job in made] == [2, 0, 3, 4, 1]


@pytest.mark.parametrize(
    ("frames", "fps", "seconds"), [(17, 8, "2.125"), (81, 16, "5.0625"), (1, 24, "0.0416667")]
)
def test_seconds_are_text(jobs: Jobs, frames: int, fps: int, seconds: str) -> None:
    assert video(jobs.create(order(frames=frames, fps=fps)), jobs, 0).seconds == seconds
