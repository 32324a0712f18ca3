"""OpenAI's own client makes, watches, lists, fetches and deletes videos."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI, BadRequestError, NotFoundError, OpenAI, UnprocessableEntityError
from openai.types import Video

from tests.modelfile.files import lora, save
from tests.server.openai.conftest import QUICK, make
from tests.server.serving import Server
from wanrun.video.provenance import read_provenance
from wanrun.video.stills import same_frames

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")


def extra(video: Video) -> dict[str, Any]:
    """What we add to the client's object."""
    assert video.model_extra is not None
    return dict(video.model_extra["wanrun"])


def create(client: OpenAI, key: str | None = None, **changes: Any) -> Video:
    headers = None if key is None else {"Idempotency-Key": key}
    return client.videos.create(
        model="wan-toy", prompt="a red ball", extra_headers=headers, extra_body=QUICK | changes
    )


def test_a_video_is_made_and_fetched(openai: OpenAI, server: Server, finished: Video, tmp_path: Path) -> None:
    assert (finished.status, finished.progress, finished.error) == ("completed", 100, None)
    assert (finished.model, finished.size, finished.seconds) == ("wan-toy:latest", "32x32", "0.3125")
    assert finished.completed_at is not None
    assert finished.created_at <= finished.completed_at < (finished.expires_at or 0)
    openai.videos.download_content(finished.id).write_to_file(tmp_path / "video.mp4")
    data = (tmp_path / "video.mp4").read_bytes()
    assert data == (server.home / "videos" / f"{finished.id}.mp4").read_bytes()
    told = extra(finished)
    assert told["bytes"] == len(data)
    assert (told["steps"], told["frames"], told["seed"], told["queue_position"]) == (2, 5, 7, None)
    assert read_provenance(tmp_path / "video.mp4")["request"]["seed"] == 7
    assert len(told["provenance"]) == 64
    assert (told["cache"], told["skipped"]) == ("none", 0)


def test_what_steadies_and_hastens_a_video_is_asked_for_and_told(openai: OpenAI, http: httpx.Client) -> None:
    asked = {
        "cache": "easycache:threshold=9,warmup=0",
        "noise": "mixed:alpha=0.5",
        "guidance_start": 0.99,
        "guidance_end": 0.1,
        "guidance_rescale": 0.5,
        "cross_frame": 1.5,
        "flicker": 0.5,
    }
    video = make(openai, num_inference_steps=5, **asked)
    told = extra(video)
    assert {name: told[name] for name in asked} == asked
    assert 0 < told["skipped"] < 1
    provenance = http.get(f"/v1/videos/{video.id}/provenance").json()
    assert provenance["cache"]["share"] == told["skipped"]
    assert asked.items() <= provenance["request"].items()


def test_the_same_request_is_the_same_video(openai: OpenAI, finished: Video) -> None:
    again = make(openai, format="webm"), make(openai, format="webm")
    files = [openai.videos.download_content(video.id) for video in again]
    assert [file.response.headers["content-type"] for file in files] == ["video/webm"] * 2
    assert len({hashlib.sha256(file.read()).digest() for file in files}) == 1


def test_a_lora_of_the_servers_folder(
    openai: OpenAI, http: httpx.Client, server: Server, finished: Video, tmp_path: Path
) -> None:
    """The same by its name and, once it was brought, by its digest; in JSON and in a form."""
    attention = {name: shape for name, shape in lora(256, layers=4).items() if "attn" in name}
    path = save(server.home / "loras" / "style.safetensors", attention, 0.05)
    made = make(openai, lora={"name": "style", "role": "high_noise", "scale": 0.5})
    (told,) = extra(made)["lora"]
    digest = "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    assert told == {"origin": "style.safetensors", "digest": digest, "role": "high_noise", "scale": 0.5}
    files = [openai.videos.download_content(video.id).read() for video in (finished, made)]
    assert files[0] != files[1]
    assert http.get(f"/v1/videos/{made.id}/provenance").json()["request"]["lora"] == [told]
    form = {key: (None, str(value)) for key, value in QUICK.items()} | {
        "model": (None, "wan-toy"),
        "prompt": (None, "a red ball"),
        "lora": (None, f"high_noise={digest}:0.5"),
    }
    again = http.post("/v1/videos/sync", files=form)
    assert again.status_code == 200, again.text
    (tmp_path / "again.mp4").write_bytes(again.content)
    (tmp_path / "made.mp4").write_bytes(files[1])
    assert same_frames(tmp_path / "again.mp4", tmp_path / "made.mp4")
    replayed = http.post("/api/replay", json={"id": made.id, "stream": False}).json()
    assert replayed["bit_exact"] is True
    generated = {
        "model": "wan-toy",
        "prompt": "a red ball",
        "width": 32,
        "height": 32,
        "frames": 5,
        "steps": 2,
    }
    for where in ({"lora": ["high_noise=style:0.5"]}, {"options": {"lora": "high_noise=style:0.5"}}):
        answer = http.post("/api/generate", json=generated | where | {"seed": 7, "stream": False}).json()
        assert http.get(f"/v1/videos/{answer['id']}").json()["wanrun"]["lora"] == [told]
    described = http.get(f"/v1/videos/{made.id}/provenance").json()
    hostile: list[Any] = [[{**told, "digest": "sha256:" + "0" * 64}], [{**told, "role": 3}], [{}], 3, ["x"]]
    for bad in hostile:
        twisted = described | {"request": described["request"] | {"lora": bad}}
        assert http.post("/api/replay", json={"provenance": twisted}).status_code == 400, bad


@pytest.mark.parametrize(
    ("variant", "magic"), [("video", b"\0\0\0"), ("thumbnail", b"RIFF"), ("spritesheet", b"\xff\xd8\xff")]
)
def test_each_variant_is_what_it_says(openai: OpenAI, finished: Video, variant: Any, magic: bytes) -> None:
    assert openai.videos.download_content(finished.id, variant=variant).read().startswith(magic)


def test_the_list_is_read_page_by_page(openai: OpenAI) -> None:
    made = [create(openai, seed=seed).id for seed in range(5)]
    newest = [video.id for video, _ in zip(openai.videos.list(limit=2), range(5), strict=False)]
    assert newest == made[::-1]
    oldest = [video.id for video in openai.videos.list(limit=2, order="asc")]
    assert oldest[-5:] == made
    page = openai.videos.list(limit=1)
    assert page.has_more
    for video_id in made:
        openai.videos.delete(video_id)
    assert not set(made) & {video.id for video in openai.videos.list(limit=100)}


def test_what_is_deleted_is_gone(openai: OpenAI, server: Server) -> None:
    video = make(openai)
    gone = openai.videos.delete(video.id)
    assert (gone.id, gone.object, gone.deleted) == (video.id, "video.deleted", True)
    assert not (server.home / "videos" / f"{video.id}.mp4").exists()
    for call in (openai.videos.retrieve, openai.videos.delete, openai.videos.download_content):
        with pytest.raises(NotFoundError) as caught:
            call(video.id)
        assert caught.value.body == {
            "message": f"there is no job '{video.id}'",
            "type": "not_found_error",
            "param": None,
            "code": None,
        }


def test_a_video_that_is_being_made_can_be_deleted(openai: OpenAI, http: httpx.Client) -> None:
    video = create(openai, num_inference_steps=500)
    while openai.videos.retrieve(video.id).status == "queued":
        pass
    assert openai.videos.delete(video.id).deleted
    assert http.get(f"/v1/videos/{video.id}").status_code == 404
    assert make(openai).status == "completed"


def test_cancelled_videos_stay_cancelled(openai: OpenAI, http: httpx.Client, finished: Video) -> None:
    running, waiting = create(openai, num_inference_steps=500), create(openai, priority=-5)
    assert extra(waiting)["queue_position"] in (0, 1)
    answer = http.post(f"/v1/videos/{waiting.id}/cancel").json()
    assert (answer["status"], answer["completed_at"]) == ("cancelled", None)
    http.post(f"/v1/videos/{running.id}/cancel")
    assert openai.videos.poll(running.id, poll_interval_ms=100).id == running.id
    for video in (running, waiting):
        with pytest.raises(BadRequestError):
            openai.videos.download_content(video.id)
    unchanged = http.post(f"/v1/videos/{finished.id}/cancel")
    assert (unchanged.status_code, unchanged.json()["status"]) == (200, "completed")


def test_a_key_makes_one_video(openai: OpenAI) -> None:
    first, again = create(openai, "once"), create(openai, "once")
    assert again.id == first.id
    with pytest.raises(UnprocessableEntityError):
        create(openai, "once", seed=8)
    openai.videos.delete(first.id)


def test_json_and_a_form_mean_the_same(http: httpx.Client) -> None:
    sent = {"model": "wan-toy", "prompt": "a red ball", "seconds": "1", "fps": 8, "size": "32x32", "seed": 1}
    form = {key: (None, str(value)) for key, value in sent.items()}
    answers = [
        http.post("/v1/videos", json=sent).json(),
        http.post("/v1/videos", json=sent | {"seconds": 1}).json(),
        http.post("/v1/videos", files=form).json(),
    ]
    assert [answer["wanrun"]["frames"] for answer in answers] == [9, 9, 9]
    settings = [
        {key: value for key, value in answer["wanrun"].items() if key != "queue_position"}
        for answer in answers
    ]
    assert settings[0] == settings[1] == settings[2]
    for answer in answers:
        assert http.delete(f"/v1/videos/{answer['id']}").json()["deleted"]


def test_polling_is_told_when_to_come_back(openai: OpenAI, finished: Video) -> None:
    raw = openai.videos.with_raw_response.retrieve(finished.id)
    assert 500 <= int(raw.headers["openai-poll-after-ms"]) <= 15_000
    assert raw.parse().id == finished.id


def test_the_asynchronous_client_makes_one_too(server: Server) -> None:
    async def made() -> Video:
        async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
            return await client.videos.create_and_poll(
                model="wan-toy", prompt="a ball", poll_interval_ms=100, extra_body=QUICK
            )

    assert asyncio.run(made()).status == "completed"


def test_mistakes_are_named(openai: OpenAI) -> None:
    with pytest.raises(BadRequestError) as caught:
        create(openai, size="big")
    assert caught.value.param == "size"
    assert "WIDTHxHEIGHT" in caught.value.message
    with pytest.raises(NotFoundError):
        openai.videos.create(model="nobody/nothing", prompt="x")
    with pytest.raises(BadRequestError) as caught:
        openai.videos.create(model="wan-toy", prompt="x", input_reference=("a.png", b"png"))
    assert "words alone" in caught.value.message


def test_what_no_model_here_can_do(openai: OpenAI, http: httpx.Client, finished: Video) -> None:
    film = ("a.mp4", b"film")
    with pytest.raises(BadRequestError, match="POST the prompt of a new one") as caught:
        openai.videos.edit(prompt="x", video=film)
    assert caught.value.type == "invalid_request_error"
    with pytest.raises(BadRequestError, match="seconds or num_frames"):
        openai.videos.extend(prompt="x", seconds="4", video=film)
    with pytest.raises(BadRequestError, match="no characters"):
        openai.videos.create_character(name="x", video=film)
    with pytest.raises(BadRequestError, match="no characters"):
        openai.videos.get_character("char_1")
    with pytest.raises(BadRequestError, match="with the seed of this one, 7"):
        openai.videos.remix(finished.id, prompt="x")
    with pytest.raises(NotFoundError):
        openai.videos.remix("video_" + 24 * "0", prompt="x")
    for body in (b"", b"{", b"[1]", b"\xff"):
        assert http.post("/v1/videos/edits", content=body).status_code == 400
