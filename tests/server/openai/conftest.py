"""The real client of OpenAI, and a video that is finished."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI
from openai.types import Video

from tests.server.serving import Server

#: What makes a video in a moment, sent as the client sends extensions.
QUICK = {"num_frames": 5, "num_inference_steps": 2, "size": "32x32", "seed": 7}


@pytest.fixture(scope="session")
def openai(server: Server) -> Iterator[OpenAI]:
    """An unmodified client that does not try again."""
    with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=120) as client:
        yield client


def make(client: OpenAI, **changes: Any) -> Video:
    """A video that is quick to make, finished."""
    return client.videos.create_and_poll(
        model="wan-toy", prompt="a red ball", poll_interval_ms=100, extra_body=QUICK | changes
    )


@pytest.fixture(scope="session")
def finished(openai: OpenAI) -> Video:
    """A finished video that tests may look at and must not delete."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return make(openai)
