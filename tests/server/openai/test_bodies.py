"""A body that cannot be used is refused in OpenAI's form, with the name of what is wrong."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

BASE = {"model": "wan-toy", "prompt": "a ball"}


def refusal(answer: httpx.Response) -> dict[str, Any]:
    """The error of an answer that refuses."""
    assert answer.status_code == 400, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    return error


@pytest.mark.parametrize(
    ("changes", "param", "said"),
    [
        ({"model": ""}, "model", "at least 1 character"),
        ({"model": "../../etc"}, None, "invalid model name"),
        ({"model": 7}, "model", "string"),
        ({"prompt": ""}, "prompt", "at least 1 character"),
        ({"prompt": ["a"]}, "prompt", "string"),
        ({"prompt": "a" * 32_001}, "prompt", "32000"),
        ({"guidence_scale": 3}, "guidence_scale", "did you mean 'guidance_scale'?"),
        ({"generator_device": "cuda"}, "generator_device", "there are: model, prompt"),
        ({"num_frames": "5"}, "num_frames", "integer"),
        ({"num_frames": 0}, "num_frames", "greater than or equal to 1"),
        ({"num_frames": 10**30}, "num_frames", ""),
        ({"num_frames": True}, "num_frames", "integer"),
        ({"num_frames": 5.5}, "num_frames", "integer"),
        ({"seed": -1.0}, "seed", ""),
        ({"num_inference_steps": 1001}, "num_inference_steps", "1000"),
        ({"guidance_scale": -1}, "guidance_scale", ""),
        ({"guidance_scale_2": 51}, "guidance_scale_2", ""),
        ({"flow_shift": 0}, "flow_shift", "0.001"),
        ({"boundary_ratio": 1.1}, "boundary_ratio", ""),
        ({"seed": -1}, "seed", ""),
        ({"seed": 2**32}, "seed", ""),
        ({"fps": 241}, "fps", ""),
        ({"seconds": "0"}, "seconds", "above 0"),
        ({"seconds": "601"}, "seconds", "at most 600"),
        ({"seconds": -4}, "seconds", ""),
        ({"seconds": "four"}, "seconds", ""),
        ({"seconds": 1, "num_frames": 9}, None, "not both"),
        ({"size": "8x64"}, "size", "16 to 4096"),
        ({"size": "4097x64"}, "size", "16 to 4096"),
        ({"size": "4096x4096", "num_frames": 1025}, None, "pixels"),
        ({"lora": {"name": "x", "path": "/etc/passwd"}}, "lora", "path: Extra inputs"),
        ({"lora": "/etc/passwd"}, None, "there is no LoRA"),
        ({"lora": ["../../jobs.sqlite"]}, None, "there is no LoRA"),
        ({"lora": {"name": "hf.co/me/repo/x.safetensors"}}, None, "there is no LoRA"),
        ({"lora": {"name": "x", "scale": 101}}, "lora", "scale: Input should be less"),
        ({"lora": {"name": "x", "scale": "much"}}, "lora", "scale: Input should be a valid number"),
        ({"lora": "vae=x"}, "lora", "for high_noise or low_noise"),
        ({"lora": [[]]}, "lora", "each: Input should be a valid dictionary"),
        ({"lora": ["x"] * 17}, "lora", "at most 16"),
        ({"lora": 7}, "lora", "valid dictionary"),
        ({"lora": "wan-toy"}, None, "wan-toy:latest has no adapters"),
        ({"input_reference": {"image_url": "http://10.0.0.1/"}}, "input_reference", "words alone"),
        ({"sampler": "none"}, None, "is not known"),
        ({"expand": "none:words=3"}, None, "expand"),
        ({"expand": "llama"}, None, "no language model"),
        ({"prompt": "a (ball:9)"}, None, "weights are from 0 to 5"),
        ({"prompt": "a __ball__"}, None, "no YAML file"),
        ({"target": 0}, "target", "greater than 0"),
        ({"target": "60s"}, "target", "number"),
        ({"target": 0.001}, None, "nothing is done in 0.001 s"),
        ({"quality": "great"}, "quality", "draft"),
        ({"decoder": "tiny"}, None, "no tiny decoder"),
        ({"priority": 101}, "priority", ""),
        ({"format": "png"}, "format", "mp4"),
    ],
)
def test_fields_are_checked(
    http: httpx.Client, changes: dict[str, Any], param: str | None, said: str
) -> None:
    error = refusal(http.post("/v1/videos", json=BASE | changes))
    assert error["param"] == param
    assert said in error["message"]
    assert len(error["message"]) < 1000


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b'{"model": "wan-toy", "prompt": "\xff"}',
        b'{"model": "wan-toy", "prompt": "\\ud800"}',
        b'{"model": "wan-toy", "prompt": "a", "guidance_scale": NaN}',
        b'{"model": "wan-toy", "prompt": "a", "guidance_scale": 1e999}',
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
    ],
)
@pytest.mark.parametrize("path", ["/v1/videos", "/v1/videos/sync", "/v1/images/generations"])
def test_what_is_no_json_is_refused(http: httpx.Client, path: str, body: bytes) -> None:
    refusal(http.post(path, content=body))


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"--x\r\n"),
        ("multipart/form-data; boundary=x", b"no boundary in it"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nwan',
        ),
        ("multipart/form-data; boundary=x", b"--x--\r\n"),
    ],
)
def test_what_is_no_form_is_refused(http: httpx.Client, content_type: str, body: bytes) -> None:
    refusal(http.post("/v1/videos", content=body, headers={"Content-Type": content_type}))


def test_forms_are_as_strict(http: httpx.Client) -> None:
    form = [(key, (None, value)) for key, value in BASE.items()]
    assert refusal(http.post("/v1/videos", files=[*form, ("seed", (None, "x"))]))["param"] == "seed"
    twice = [*form, ("prompt", (None, "another"))]
    assert "twice" in refusal(http.post("/v1/videos", files=twice))["message"]
    twice = [*form, ("lora[name]", (None, "x")), ("lora[name]", (None, "x"))]
    assert "twice" in refusal(http.post("/v1/videos", files=twice))["message"]
    twice = [*form, ("lora", (None, "x")), ("lora[name]", (None, "x"))]
    assert "twice" in refusal(http.post("/v1/videos", files=twice))["message"]
    picture = [*form, ("input_reference[image_url]", (None, "data:image/png;base64,"))]
    assert refusal(http.post("/v1/videos", files=picture))["param"] == "input_reference"
    many = [*form, *((f"field{index}", (None, "1")) for index in range(100))]
    refusal(http.post("/v1/videos", files=many))
    refusal(http.post("/v1/videos", files=[*form, ("lora", (None, '{"name": "x"}'))]))


def test_what_curl_calls_a_form_is_json(http: httpx.Client) -> None:
    sent = json.dumps(BASE | {"num_frames": 5, "priority": -9}).encode()
    answer = http.post(
        "/v1/videos", content=sent, headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert answer.status_code == 200
    assert http.delete(f"/v1/videos/{answer.json()['id']}").status_code == 200


@pytest.mark.parametrize("key", ["", "a" * 201, "tab\tbed"])
def test_keys_are_checked(http: httpx.Client, key: str) -> None:
    refusal(http.post("/v1/videos", json=BASE, headers={"Idempotency-Key": key}))


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=101", "limit=x", "order=up", "limit=99999999999999999999"],
)
def test_lists_are_checked(http: httpx.Client, query: str) -> None:
    refusal(http.get(f"/v1/videos?{query}"))


@pytest.mark.parametrize("after", ["video_x", "x" * 5000, "video_" + "0" * 24, "%00"])
def test_pages_after_nothing_are_not_found(http: httpx.Client, after: str) -> None:
    assert http.get(f"/v1/videos?after={after}").status_code == 404


@pytest.mark.parametrize("video_id", ["video_" + "0" * 24, "..%2f..%2fjobs.sqlite", "%00", "a'b", "a" * 5000])
@pytest.mark.parametrize("rest", ["", "/content", "/events", "/cancel"])
def test_no_such_video(http: httpx.Client, video_id: str, rest: str) -> None:
    method = "POST" if rest == "/cancel" else "GET"
    answer = http.request(method, f"/v1/videos/{video_id}{rest}")
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "not_found_error"
