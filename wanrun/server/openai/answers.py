"""What is answered: the objects of OpenAI's API, and what a job looks like as one."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

VideoStatus = Literal["queued", "in_progress", "completed", "failed", "cancelled"]


class VideoError(BaseModel):
    """Why there is no video."""

    code: str = Field(description="generation_failed.")
    message: str


class AppliedLora(BaseModel):
    """A LoRA as it is applied."""

    origin: str = Field(description="Its file's name.")
    digest: str
    role: str = Field(description="An expert, or empty for all of them.")
    scale: float


class Details(BaseModel):
    """What OpenAI's object has no word for: the settings as they were resolved, and how far the job is."""

    format: str = Field(description="mp4, webm or gif.")
    width: int
    height: int
    frames: int
    fps: int
    steps: int
    guidance: float = Field(description="Of the high-noise expert, or of the only one.")
    guidance_low: float = Field(description="Of the low-noise expert, if there are two.")
    shift: float
    boundary: float | None = Field(description="Null for a model of one expert.")
    sampler: str
    schedule: str
    guidance_start: float
    guidance_end: float
    guidance_rescale: float
    cache: str
    noise: str
    cross_frame: float
    compose: float
    flicker: float
    expand: str
    skipped: float | None = Field(
        description="Part of the model's forwards that the cache left out; null until the video is done."
    )
    seed: int
    negative_prompt: str
    precision: str
    decoder: str
    lora: list[AppliedLora] = Field(description="Of this video alone, besides the model's own.")
    notes: list[str] = Field(description="What was changed to fit the model.")
    priority: int
    queue_position: int | None = Field(description="Jobs that are before it; null once it has begun.")
    phase: str = Field(description="text, denoise or decode; empty before the first.")
    step: int = Field(description="Done in this phase.")
    total: int = Field(description="All of this phase; 0 for unknown.")
    rate: float | None = Field(description="Steps a second in this phase.")
    seconds_left: float | None = Field(description="Seconds until this phase is over.")
    cancelling: bool = Field(description="Whether it will be cancelled in a moment.")
    bytes: int | None = Field(description="Size of the finished video's file.")
    provenance: str | None = Field(description="sha256 of the provenance that the finished video carries.")


class Video(BaseModel):
    """A video, finished or not."""

    id: str
    object: Literal["video"] = "video"
    model: str
    status: VideoStatus
    progress: int = Field(ge=0, le=100, description="Percent.")
    created_at: int = Field(description="Seconds since 1970, as all times.")
    completed_at: int | None
    expires_at: int | None = Field(description="When the finished video is deleted.")
    prompt: str
    size: str
    seconds: str
    remixed_from_video_id: None = None
    error: VideoError | None
    wanrun: Details


class Progress(BaseModel):
    """How far a video is: the data of a ``progress`` event."""

    status: VideoStatus
    progress: int = Field(ge=0, le=100, description="Percent.")
    phase: str = Field(description="text, denoise or decode; empty before the first.")
    step: int = Field(description="Done in this phase.")
    steps: int = Field(description="All of this phase; 0 for unknown.")
    rate: float | None = Field(description="Steps a second in this phase.")
    seconds_left: float | None = Field(description="Seconds until this phase is over.")
    preview: str | None = Field(
        None, description="A data: URI of a small picture; left out where it is null."
    )


class VideoList(BaseModel):
    """A page of videos."""

    object: Literal["list"] = "list"
    data: list[Video]
    first_id: str | None
    last_id: str | None = Field(description="To be sent as after for the next page.")
    has_more: bool


class VideoDeleted(BaseModel):
    """A video that is no more."""

    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: Literal[True] = True


class ModelCard(BaseModel):
    """A model of the store."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class ModelList(BaseModel):
    """All models of the store."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class Image(BaseModel):
    """One image, in one of two ways."""

    b64_json: str | None = None
    url: str | None = None


class ImageList(BaseModel):
    """The images of one request."""

    created: int
    output_format: Literal["png", "jpeg", "webp"]
    size: str
    data: list[Image]


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(BaseModel):
    """OpenAI's form of an error."""

    error: ErrorDetail
