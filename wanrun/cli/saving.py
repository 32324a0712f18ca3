"""Writes a video to the file that a command was asked for, and says what it made."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wanrun.errors import InvalidRequest
from wanrun.types import Bundle, GenerationRequest, Progress, Tally

if TYPE_CHECKING:
    from wanrun.types import Frame

FORMATS = ("mp4", "webm", "gif", "png")


@dataclass(frozen=True, slots=True)
class Video:
    """A video to be written: what it is of, and where to if the user said so."""

    bundle: Bundle
    request: GenerationRequest
    output: str | None
    file_format: str | None
    #: Filled while it is made.
    tally: Tally = field(default_factory=Tally)

    @property
    def path(self) -> Path:
        if self.output:
            return Path(self.output)
        return free_name(self.request.prompt, self.request.seed, self.file_format or "mp4")


def save(frames: Callable[[Progress], Iterator[Frame]], video: Video, as_json: bool, started: float) -> None:
    """Write the frames as they come, with their provenance, and print the file's name or its description.

    ``started`` is the monotonic time at which the command began.
    """
    from wanrun import pipeline
    from wanrun.cli.progress import shown
    from wanrun.video.writer import open_writer

    request = video.request
    describe = partial(pipeline.provenance, video.bundle, request, video.tally)
    destination = open_writer(video.path, request.fps, video.file_format, describe)
    with destination as writer, shown(quiet=as_json) as progress:
        for frame in frames(progress):
            writer.write(frame)
    tell(writer.path, request, video.tally.share, describe() if as_json else None, started)


def tell(
    path: Path, request: GenerationRequest, share: float, described: Mapping[str, Any] | None, started: float
) -> None:
    """Print the finished video's file, or with its provenance ``described`` one JSON object.

    ``share`` of the model's forwards was left out by a step cache.
    """
    elapsed_s = time.monotonic() - started
    if described is not None:
        click.echo(json.dumps({"path": str(path), "seconds": round(elapsed_s, 3), **described}))
    else:
        what = f"{request.width}x{request.height}, {request.frames} frames, seed {request.seed}"
        if share:
            what += f", {share:.0%} of the forwards skipped"
        click.echo(f"{path}  ({what}, {elapsed_s:.1f} s)")


def free_name(prompt: str, seed: int, ending: str) -> Path:
    """A new file in the working folder, named after the prompt's first words."""
    words = re.sub(r"[^\w]+", "-", prompt.lower()).strip("-_")[:50].strip("-_") or "video"
    for number in range(1, 10_000):
        path = Path(f"{words}-{seed}{'' if number == 1 else f'-{number}'}.{ending}")
        if not path.exists() and not path.with_suffix("").exists():
            return path
    raise InvalidRequest(f"10,000 files are already named {words}-{seed}; give another with -o")
