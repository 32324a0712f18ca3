"""The suite ``fidelity``: what a model costs in likeness to another one, on the same prompts and seeds."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from wanrun.errors import InvalidRequest
from wanrun.evaluate import likeness, toy
from wanrun.evaluate.likeness import Likeness
from wanrun.evaluate.lpips import Lpips
from wanrun.evaluate.making import Made, make
from wanrun.evaluate.suite import Report, Strip, Suite
from wanrun.gguf.header import read_header
from wanrun.request import resolve
from wanrun.settings import get as setting
from wanrun.types import Bundle, Progress
from wanrun.wan.detect import is_toy

if TYPE_CHECKING:
    from wanrun.types import Frame

HEADER = ("MODEL", "EXPERTS", "ERROR", "COSINE", "PSNR", "SSIM", "LPIPS", "TOY", "S/VIDEO", "MEMORY")
#: As many videos are on a contact sheet.
_SHOWN = 24
#: Differences are drawn so much clearer than they are.
_AMPLIFIED = 4


@contextmanager
def against(reference: Bundle) -> Iterator[Suite]:
    """The suite that compares models with ``reference``, whose videos are made once and deleted in the end.

    Where WANRUN_LPIPS names a file of weights, LPIPS is measured too; FormatError when it holds others.
    """
    weights = setting("lpips")
    with tempfile.TemporaryDirectory(prefix="wanrun-") as folder:
        yield _Fidelity(reference, Path(folder), Lpips(Path(weights).expanduser()) if weights else None)


@dataclass(slots=True)
class _Fidelity:
    reference: Bundle
    folder: Path
    lpips: Lpips | None
    made: Made | None = None

    def __call__(
        self, bundle: Bundle, settings: Mapping[str, Any], limit: int | None, progress: Progress, device: str
    ) -> Report:
        """See ``wanrun.evaluate.suite.Suite``. InvalidRequest when the two make latents of other shapes.

        The prompts are the toy suite's for models that know shapes, and are judged as there.
        """
        judged = (
            toy.spread(toy.suite(), limit)
            if is_toy(read_header(next(iter(self.reference.experts.values())).path))
            else []
        )
        asked = [(item.prompt, item.seed) for item in judged] or _prompts(limit)
        theirs, ours = (
            [resolve(model, prompt, {"seed": seed, **settings}) for prompt, seed in asked]
            for model in (self.reference, bundle)
        )
        if theirs[0].latent_shape != ours[0].latent_shape:
            raise InvalidRequest(
                f"{bundle.name} makes latents of shape {ours[0].latent_shape} and {self.reference.name} of "
                f"{theirs[0].latent_shape}: only models of one size and number of frames can be compared"
            )
        if self.made is None:
            self.made = make(self.reference, theirs, self.folder / "reference", progress, device)
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            made = make(bundle, ours, Path(folder) / "made", progress, device)
            alike = []
            for index in range(len(asked)):
                alike.append(likeness.compare(made, self.made, index, self.lpips))
                progress("comparing videos", index + 1, len(asked))
            strips = _strips(asked, alike, made, self.made)
            scores = [_toy_scores(judged, each) for each in (self.made, made)]
        return self._report(bundle, asked, alike, made, scores, strips)

    def _report(
        self,
        bundle: Bundle,
        asked: Sequence[tuple[str, int]],
        alike: Sequence[Likeness],
        made: Made,
        scores: Sequence[Mapping[str, float]],
        strips: Sequence[Strip],
    ) -> Report:
        assert self.made is not None
        whole, count = likeness.mean(alike), len(asked)
        models = zip(("reference", "model"), (self.reference, bundle), (self.made, made), scores, strict=True)
        costs = {role: _costs(each, taken, score, count) for role, each, taken, score in models}
        values = {
            "suite": "fidelity",
            **costs,
            "mean": whole.plain(),
            "videos": [
                {"prompt": prompt, "seed": seed, **each.plain()}
                for (prompt, seed), each in zip(asked, alike, strict=True)
            ],
        }
        rows = [_row(costs["reference"], None), _row(costs["model"], whole)]
        return Report(values, HEADER, rows, _note(whole), strips)


def _prompts(limit: int | None) -> list[tuple[str, int]]:
    found: list[str] = yaml.safe_load(files(__package__).joinpath("fidelity.yaml").read_text("utf-8"))
    numbered = [(prompt, seed) for seed, prompt in enumerate(found)]
    return numbered if limit is None else numbered[:limit]


def _toy_scores(judged: Sequence[toy.Asked], made: Made) -> dict[str, float]:
    """The parts that are right, by criterion, of all videos in which it was asked for."""
    verdicts = [toy.judge(item, list(made.frames(index))) for index, item in enumerate(judged)]
    scores: dict[str, float] = {}
    for criterion in toy.CRITERIA:
        right = [verdict.right[criterion] for verdict in verdicts if criterion in verdict.right]
        if right:
            scores[criterion] = float(np.mean(right))
    return scores


def _costs(bundle: Bundle, made: Made, scores: Mapping[str, float], videos: int) -> dict[str, Any]:
    return {
        "name": bundle.name,
        "components": {role: component.digest for role, component in bundle.components.items()},
        "expert_bytes": sum(component.size for component in bundle.experts.values()),
        "seconds_per_video": made.seconds / videos,
        "peak_bytes": made.peak_bytes,
        "toy": dict(scores),
    }


def _row(costs: Mapping[str, Any], whole: Likeness | None) -> tuple[str, ...]:
    likeness_cells = ("", "", "", "", "")
    if whole is not None:
        likeness_cells = (
            f"{whole.error:.2%}",
            f"{whole.cosine:.5f}",
            f"{whole.psnr:.1f} dB" if math.isfinite(whole.psnr) else "equal",
            f"{whole.ssim:.4f}",
            "" if whole.lpips is None else f"{whole.lpips:.4f}",
        )
    toy_scores = list(costs["toy"].values())
    return (
        costs["name"],
        f"{costs['expert_bytes'] / 1e6:.2f} MB",
        *likeness_cells,
        f"{np.mean(toy_scores):.1%}" if toy_scores else "",
        f"{costs['seconds_per_video']:.2f}",
        f"{costs['peak_bytes'] / 1e6:.0f} MB",
    )


def _note(whole: Likeness) -> str:
    if not whole.drift:
        return "the models take different numbers of steps: there is no drift to tell"
    steps = sorted(
        {0, len(whole.drift) // 4, len(whole.drift) // 2, 3 * len(whole.drift) // 4, len(whole.drift) - 1}
    )
    told = ", ".join(f"{whole.drift[step]:.2%} after step {step + 1}" for step in steps)
    return f"error of the latents on the way: {told}"


def _strips(
    asked: Sequence[tuple[str, int]], alike: Sequence[Likeness], made: Made, reference: Made
) -> list[Strip]:
    """The reference above the model above their difference, the least alike videos first."""
    order = sorted(range(len(asked)), key=lambda index: -alike[index].error)[:_SHOWN]
    return [
        (
            f"{asked[index][0]}  {alike[index].error:.1%}",
            (),
            [
                np.concatenate([theirs, ours, difference(ours, theirs)])
                for ours, theirs in zip(made.frames(index), reference.frames(index), strict=True)
            ],
        )
        for index in order
    ]


def difference(ours: Frame, reference: Frame) -> Frame:
    """A map of where two frames differ, black where they do not, four times as clear as it is."""
    apart = np.abs(ours.astype(np.int16) - reference.astype(np.int16))
    drawn: Frame = np.minimum(_AMPLIFIED * apart, 255).astype(np.uint8)
    return drawn
