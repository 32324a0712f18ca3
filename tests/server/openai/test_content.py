"""Ranges, ETags and pictures of a finished video."""

from __future__ import annotations

from io import BytesIO

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Video
from PIL import Image

from wanrun.server.openai.ranges import NotSatisfiable, parse_range


@pytest.fixture
def url(finished: Video) -> str:
    return f"/v1/videos/{finished.id}/content"


def test_parts_of_a_video_are_its_bytes(http: httpx.Client, url: str) -> None:
    whole = http.get(url)
    data, size = whole.content, len(whole.content)
    assert (whole.status_code, whole.headers["content-type"]) == (200, "video/mp4")
    assert (whole.headers["accept-ranges"], int(whole.headers["content-length"])) == ("bytes", size)
    for asked, begin, end in (("0-0", 0, 1), ("5-", 5, size), ("-7", size - 7, size), (f"9-{size}", 9, size)):
        part = http.get(url, headers={"Range": f"bytes={asked}"})
        assert (part.status_code, part.content) == (206, data[begin:end])
        assert part.headers["content-range"] == f"bytes {begin}-{end - 1}/{size}"
        assert int(part.headers["content-length"]) == end - begin


@pytest.mark.parametrize(
    "asked", ["bytes=", "bytes=-", "bytes=x-1", "items=0-1", "bytes=9-1", "bytes=0-1,3-4"]
)
def test_what_is_no_range_gets_the_whole(http: httpx.Client, url: str, asked: str) -> None:
    answer = http.get(url, headers={"Range": asked})
    assert answer.status_code == 200
    assert "content-range" not in answer.headers


@pytest.mark.parametrize("asked", ["99999999-", "99999999-999999999", "-0"])
def test_ranges_beyond_the_end_are_refused(http: httpx.Client, url: str, asked: str) -> None:
    size = len(http.get(url).content)
    answer = http.get(url, headers={"Range": f"bytes={asked}"})
    assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{size}")
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("variant", ["video", "thumbnail", "spritesheet"])
def test_what_a_client_has_is_not_sent_again(http: httpx.Client, url: str, variant: str) -> None:
    etag = http.get(url, params={"variant": variant}).headers["etag"]
    for sent in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = http.get(url, params={"variant": variant}, headers={"If-None-Match": sent})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert http.get(url, params={"variant": variant}, headers={"If-None-Match": '"other"'}).content


def test_a_part_of_something_else_is_the_whole(http: httpx.Client, url: str) -> None:
    etag = http.get(url).headers["etag"]
    headers = {"Range": "bytes=0-1", "If-Range": '"other"'}
    assert http.get(url, headers=headers).status_code == 200
    assert http.get(url, headers=headers | {"If-Range": etag}).status_code == 206


def test_pictures_are_of_the_video(http: httpx.Client, url: str) -> None:
    thumbnail = Image.open(BytesIO(http.get(url, params={"variant": "thumbnail"}).content))
    assert (thumbnail.format, thumbnail.size) == ("WEBP", (32, 32))
    sheet = Image.open(BytesIO(http.get(url, params={"variant": "spritesheet"}).content))
    assert (sheet.format, sheet.size) == ("JPEG", (4 * 32, 2 * 32))


def test_there_are_no_other_variants(http: httpx.Client, url: str) -> None:
    answer = http.get(url, params={"variant": "audio"})
    assert answer.status_code == 400
    assert "variant" in answer.json()["error"]["message"]


@given(st.text("bytes=-,0123456789 x", max_size=20) | st.from_regex(r"bytes=\d{0,9}-\d{0,9}", fullmatch=True))
def test_every_range_is_within_the_file(text: str) -> None:
    try:
        part = parse_range(text, 1000)
    except NotSatisfiable:
        return
    assert part is None or 0 <= part[0] < part[1] <= 1000
