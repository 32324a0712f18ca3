"""Clients that wait get what they wait for; those that hang up do not keep the machine busy."""

from __future__ import annotations

import base64
import time
from io import BytesIO

import httpx
import pytest
from openai import NotFoundError, OpenAI
from PIL import Image

from tests.server.openai.conftest import QUICK

SENT = {"model": "wan-toy", "prompt": "a red ball"} | QUICK


def test_the_video_is_the_answer(http: httpx.Client) -> None:
    answer = http.post("/v1/videos/sync", json=SENT | {"format": "webm"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "video/webm")
    video_id = answer.headers["wanrun-video-id"]
    assert http.get(f"/v1/videos/{video_id}/content").content == answer.content


def test_a_form_gets_the_video_too(http: httpx.Client) -> None:
    form = {key: (None, str(value)) for key, value in SENT.items()}
    assert http.post("/v1/videos/sync", files=form).headers["content-type"] == "video/mp4"


@pytest.mark.parametrize("path", ["/v1/videos/sync", "/v1/images/generations"])
def test_who_hangs_up_cancels(http: httpx.Client, path: str) -> None:
    slow = {"model": "wan-toy", "prompt": "a slow ball", "num_inference_steps": 900, "size": "32x32"}
    with pytest.raises(httpx.ReadTimeout):
        http.post(path, json=slow, timeout=1.0)
    until = time.monotonic() + 60
    while True:
        newest = http.get("/v1/videos?limit=1").json()["data"][0]
        if newest["status"] == "cancelled" or time.monotonic() > until:
            break
        time.sleep(0.1)
    assert (newest["prompt"], newest["status"]) == ("a slow ball", "cancelled")


def test_a_video_that_fails_is_an_error(http: httpx.Client) -> None:
    answer = http.post("/v1/videos/sync", json=SENT | {"model": "nobody/nothing"})
    assert answer.status_code == 404


def test_images_are_made(openai: OpenAI) -> None:
    images = openai.images.generate(
        model="wan-toy", prompt="a red ball", n=2, response_format="b64_json", extra_body=IMAGE
    )
    assert images.data is not None
    pictures = [Image.open(BytesIO(base64.b64decode(each.b64_json or ""))) for each in images.data]
    assert [(picture.format, picture.size) for picture in pictures] == [("PNG", (32, 32))] * 2
    assert pictures[0].tobytes() != pictures[1].tobytes()


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_images_have_the_format_that_was_asked_for(http: httpx.Client, format: str) -> None:
    sent = {"model": "wan-toy", "prompt": "a ball", "output_format": format} | IMAGE
    answer = http.post("/v1/images/generations", json=sent).json()
    data = base64.b64decode(answer["data"][0]["b64_json"])
    assert (Image.open(BytesIO(data)).format or "").lower() == format == answer["output_format"]


def test_images_can_be_fetched(openai: OpenAI, http: httpx.Client) -> None:
    images = openai.images.generate(
        model="wan-toy", prompt="a ball", response_format="url", extra_body=IMAGE, extra_headers=KEY
    )
    assert images.data is not None
    url = images.data[0].url or ""
    assert url.startswith(str(http.base_url))
    assert http.get(url).headers["content-type"] == "image/webp"
    again = openai.images.generate(
        model="wan-toy", prompt="a ball", response_format="url", extra_body=IMAGE, extra_headers=KEY
    )
    assert again.data == images.data


def test_images_that_cannot_be_made_are_refused(openai: OpenAI, http: httpx.Client) -> None:
    with pytest.raises(NotFoundError):
        openai.images.generate(model="nobody/nothing", prompt="a ball")
    for changes in ({"n": 0}, {"n": 11}, {"num_frames": 5}, {"size": "auto"}, {"output_format": "gif"}):
        answer = http.post("/v1/images/generations", json={"model": "wan-toy", "prompt": "x"} | changes)
        assert answer.status_code == 400


IMAGE = {"num_inference_steps": 1, "size": "32x32", "seed": 7}
KEY = {"Idempotency-Key": "an image"}
