"""Decides which video a shot becomes, so that a batch that is run again knows what it has.

A video's identity is the digest of all that decides its pixels: the files that the model is made of and the
resolved request. It is a part of the file's name, so that a changed shot is another file, and nothing of an
earlier batch is overwritten.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from wanrun import pipeline
from wanrun.batch.shots import Shot
from wanrun.errors import InvalidRequest, WanrunError
from wanrun.request import resolve
from wanrun.types import Bundle, GenerationRequest

_DIGITS = 12
_WORDS = 50  # characters


@dataclass(frozen=True, slots=True)
class Work:
    """A shot as its model makes it; ``path`` is where its video is, or will be."""

    shot: Shot
    bundle: Bundle
    request: GenerationRequest
    path: Path

    @property
    def made(self) -> bool:
        """Whether the video is there: files appear complete or not at all."""
        return self.path.is_file()


def works(shots: Iterable[Shot], load: Callable[[str], Bundle], folder: Path, ending: str) -> list[Work]:
    """What the shots become in ``folder``, each video once. Raises WanrunError with all their mistakes.

    ``load`` finds a model by its name. A shot whose seed neither it nor its model names has the seed 0: the
    same the next time.
    """
    found: dict[Path, Work] = {}
    bundles: dict[str, Bundle] = {}
    problems: dict[str, None] = {}
    for shot in shots:
        try:
            if shot.model not in bundles:
                bundles[shot.model] = load(shot.model)
            work = _work(shot, bundles[shot.model], folder, ending)
        except WanrunError as error:
            problems[f"{shot.prompt[:60]!r}: {error}"] = None
        else:
            found.setdefault(work.path, work)
    if problems:
        raise InvalidRequest("\n".join(list(problems)[:20]))
    return list(found.values())


def identity(bundle: Bundle, request: GenerationRequest) -> str:
    """The sha256, in hexadecimal, of what decides the video's pixels."""
    decisive = {key: value for key, value in asdict(request).items() if key != "notes"}
    text = json.dumps({**pipeline.ingredients(bundle), "request": decisive}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _work(shot: Shot, bundle: Bundle, folder: Path, ending: str) -> Work:
    usual = {} if "seed" in bundle.parameters else {"seed": 0}
    request = resolve(bundle, shot.prompt, usual | dict(shot.asked))
    words = shot.name or re.sub(r"[^\w]+", "-", shot.prompt.lower()).strip("-_")[:_WORDS].strip("-_")
    name = f"{words or 'video'}-{identity(bundle, request)[:_DIGITS]}.{ending}"
    return Work(shot, bundle, request, folder / name)
