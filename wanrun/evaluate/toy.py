"""The suite ``toy``: prompts whose combinations wan-toy never saw, scored from the pixels of their videos."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from wanrun import pipeline
from wanrun.evaluate.judge import Seen, look
from wanrun.evaluate.suite import Report, Strip
from wanrun.request import resolve
from wanrun.store.store import open_store
from wanrun.types import Bundle, Progress, Tally

if TYPE_CHECKING:
    from wanrun.types import Frame

#: What is scored, in the order of the table.
CRITERIA = ("colour", "ground", "shape", "motion", "count", "binding", "relation")


@dataclass(frozen=True, slots=True)
class Asked:
    """One prompt of the suite and what its video must show."""

    prompt: str
    seed: int
    #: (colour, shape) of one object, or of two of which the first is ``relation`` the second.
    objects: tuple[tuple[str, str], ...]
    relation: str
    motion: str
    ground: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """One video against its prompt: each criterion right or wrong, or not asked for (absent)."""

    asked: Asked
    seen: Seen
    right: Mapping[str, bool]


def suite() -> list[Asked]:
    """The fixed prompts, one object first, then two."""
    entries = yaml.safe_load(files(__package__).joinpath("toy.yaml").read_text("utf-8"))
    return [
        Asked(**{**entry, "objects": tuple((colour, shape) for colour, shape in entry["objects"])})
        for entry in entries
    ]


def spread(asked: Sequence[Asked], limit: int | None) -> list[Asked]:
    """At most ``limit`` prompts, evenly from the whole suite."""
    if limit is None or limit >= len(asked):
        return list(asked)
    return [asked[index * len(asked) // limit] for index in range(limit)]


def score(asked: Asked, seen: Seen) -> dict[str, bool]:
    """Which criteria the clip meets.

    ``colour`` and ``shape`` want every object's, ``binding`` that each shape has its own colour.
    """
    by_colour = {item.colour: item for item in seen.objects}
    wanted = [by_colour.get(colour) for colour, _ in asked.objects]
    right = {
        "colour": set(by_colour) == {colour for colour, _ in asked.objects},
        "ground": seen.ground == asked.ground,
        "shape": sorted(item.shape for item in seen.objects) == sorted(shape for _, shape in asked.objects),
        "motion": bool(seen.objects) and all(item.motion == asked.motion for item in seen.objects),
        "count": seen.count == len(asked.objects),
    }
    if asked.relation:
        pairs = zip(asked.objects, wanted, strict=True)
        right["binding"] = all(item is not None and item.shape == shape for (_, shape), item in pairs)
        colours = [colour for colour, _ in asked.objects]
        right["relation"] = seen.relation == (colours[0], asked.relation, colours[1])
    return right


def videos(
    bundle: Bundle,
    asked: Sequence[Asked],
    settings: Mapping[str, Any],
    progress: Progress,
    device: str,
    tally: Tally | None = None,
) -> Iterator[list[Frame]]:
    """Every prompt's frames, in order; each part of the model is opened once.

    What step caches left out of all of them is added to ``tally``.
    """
    requests = [resolve(bundle, item.prompt, {"seed": item.seed, **settings}) for item in asked]
    total = len(requests)
    with open_store().hold():
        conditionings = []
        with pipeline.open_encoder(bundle) as encoder:
            for index, request in enumerate(requests):
                conditionings.append(pipeline.encode(encoder, request))
                progress("reading prompts", index + 1, total)
        latents = []
        with pipeline.open_denoiser(bundle, requests[0], device) as denoiser:
            for index, request in enumerate(requests):
                counted = Tally()
                latents.append(pipeline.denoise(denoiser, request, conditionings[index], tally=counted))
                if tally is not None:
                    tally.forwards += counted.forwards
                    tally.skipped += counted.skipped
                progress("denoising videos", index + 1, total)
        with pipeline.open_decoder(bundle, requests[0], device) as decoder:
            for index, request in enumerate(requests):
                yield list(pipeline.decode(decoder, request, latents[index]))
                progress("decoding videos", index + 1, total)


def judge(asked: Asked, frames: Sequence[Frame]) -> Verdict:
    """The verdict on one video."""
    seen = look(frames)
    return Verdict(asked, seen, score(asked, seen))


def rates(verdicts: Sequence[Verdict]) -> dict[str, dict[str, tuple[int, int]]]:
    """For one object and for two: of each criterion how many are right, of how many."""
    groups = {
        "one object": [item for item in verdicts if not item.asked.relation],
        "two objects": [item for item in verdicts if item.asked.relation],
    }
    return {
        group: {
            criterion: (
                sum(item.right[criterion] for item in items if criterion in item.right),
                sum(criterion in item.right for item in items),
            )
            for criterion in CRITERIA
            if any(criterion in item.right for item in items)
        }
        for group, items in groups.items()
        if items
    }


def steadiness(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Means over all clips: ``flicker`` (0..255, less is better) and ``identity`` (0..1)."""
    flickers = [item.seen.flicker for item in verdicts if not np.isnan(item.seen.flicker)]
    identities = [thing.identity for item in verdicts for thing in item.seen.objects]
    return {
        "flicker": float(np.mean(flickers)) if flickers else float("nan"),
        "identity": float(np.mean(identities)) if identities else 0.0,
    }


def measure(
    bundle: Bundle, settings: Mapping[str, Any], limit: int | None, progress: Progress, device: str
) -> Report:
    """See ``wanrun.evaluate.suite``."""
    asked = spread(suite(), limit)
    strips: list[Strip] = []
    verdicts, tally = [], Tally()
    for item, frames in zip(asked, videos(bundle, asked, settings, progress, device, tally), strict=True):
        verdict = judge(item, frames)
        verdicts.append(verdict)
        strips.append((item.prompt, [name for name, good in verdict.right.items() if not good], frames))
    header, rows = table(rates(verdicts))
    values = report(verdicts) | {"computed": computed(tally)}
    return Report(values, header, rows, note(verdicts), strips)


def total(verdicts: Sequence[Verdict]) -> float:
    """0..1: the mean, over all videos, of the part of its criteria that each meets."""
    return float(np.mean([np.mean(list(item.right.values())) for item in verdicts]))


def computed(tally: Tally) -> float:
    """The part of the forwards that step caches left."""
    return 1 - tally.skipped / tally.forwards if tally.forwards else 1.0


def table(found: Mapping[str, Mapping[str, tuple[int, int]]]) -> tuple[list[str], list[list[str]]]:
    """The header and the rows of ``rates``."""
    criteria = list(dict.fromkeys(name for group in found.values() for name in group))
    rows = [
        [group, *(_rate(*rated[name]) if name in rated else "" for name in criteria)]
        for group, rated in found.items()
    ]
    return ["", *(name.upper() for name in criteria)], rows


def note(verdicts: Sequence[Verdict]) -> str:
    """The steadiness in words."""
    return "flicker {flicker:.2f} of 255, identity {identity:.0%} of frames".format(**steadiness(verdicts))


def _rate(right: int, total: int) -> str:
    return f"{right / total:.0%} ({right}/{total})"


def report(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Everything as plain values for JSON."""
    return {
        "suite": "toy",
        "score": total(verdicts),
        "rates": rates(verdicts),
        "steadiness": steadiness(verdicts),
        "clips": [
            {"asked": asdict(item.asked), "seen": _plain(item.seen), "right": dict(item.right)}
            for item in verdicts
        ],
    }


def _plain(seen: Seen) -> dict[str, Any]:
    """JSON knows no NaN: a clip without a still place has no flicker."""
    return {**asdict(seen), "flicker": None if np.isnan(seen.flicker) else seen.flicker}
