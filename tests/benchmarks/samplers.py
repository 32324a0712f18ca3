"""How far samplers and schedules are from the exact flow of wan-toy after a given number of evaluations.

``python -m tests.benchmarks.samplers [CLIPS] [EVALUATIONS]``: prompts of the suite toy, half of one object
that stays still and half of two objects. The error is that of the latents, relative to those after 400 steps,
the mean of all prompts. The adaptive sampler comes first, with the evaluations that it took for either half.
"""

from __future__ import annotations

import sys
from statistics import mean

from torch import Tensor

import wanrun
from wanrun import pipeline
from wanrun.evaluate import toy
from wanrun.request import resolve
from wanrun.types import Bundle, Conditioning, Denoiser

REFERENCE = "res-multistep", "linear", 400
FIXED = (
    ("unipc", "linear"),
    ("unipc", "beta"),
    ("unipc", "cosine"),
    ("unipc", "smoothstep"),
    ("unipc", "karras"),
    ("unipc:order=3", "cosine"),
    ("dpm++2m", "linear"),
    ("dpm++2m", "beta"),
    ("dpm++2m", "cosine"),
    ("res-multistep", "beta"),
    ("deis", "beta"),
    ("euler", "linear"),
)
ADAPTIVE = ("adaptive", "adaptive:tolerance=0.015", "adaptive:tolerance=0.005")


class Counted:
    """A denoiser that counts the evaluations of the guided velocity, both branches together."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser, self.evaluations = denoiser, 0

    def velocities(self, latents: Tensor, *others: object) -> list[Tensor]:
        self.evaluations += 1
        found: list[Tensor] = self.denoiser.velocities(latents, *others)  # type: ignore[attr-defined]
        return found

    def __getattr__(self, name: str) -> object:
        return getattr(self.denoiser, name)


def main() -> None:
    clips = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    evaluations = int(sys.argv[2]) if len(sys.argv) > 2 else 16
    bundle = wanrun.load("wan-toy")
    still = [item for item in toy.suite() if not item.relation and item.motion == "staying still"]
    two = [item for item in toy.suite() if item.relation]
    asked = toy.spread(still, clips // 2) + toy.spread(two[5:], clips // 2)
    requests = [resolve(bundle, item.prompt, {"seed": item.seed}) for item in asked]
    conditionings = pipeline.encode_all(bundle, requests)
    with pipeline.open_denoiser(bundle, requests[0], "cpu", 100_000_000) as denoiser:
        counted = Counted(denoiser)

        def run(sampler: str, schedule: str, steps: int) -> tuple[list[Tensor], list[int]]:
            found, counts = [], []
            for item, conditioning in zip(asked, conditionings, strict=True):
                before = counted.evaluations
                found.append(_latents(bundle, counted, item, conditioning, sampler, schedule, steps))
                counts.append(counted.evaluations - before)
            return found, counts

        exact, _ = run(*REFERENCE)

        def row(sampler: str, schedule: str, steps: int) -> None:
            found, counts = run(sampler, schedule, steps)
            error = mean(
                float((ours - theirs).norm() / theirs.norm())
                for ours, theirs in zip(found, exact, strict=True)
            )
            halves = mean(counts[: len(counts) // 2]), mean(counts[len(counts) // 2 :])
            print(  # noqa: T201
                f"{sampler:26} {schedule:12} {mean(counts):6.2f} evaluations, error {error:.4f}; "
                f"still {halves[0]:.2f}, two objects {halves[1]:.2f}",
                flush=True,
            )

        for sampler in ADAPTIVE:
            row(sampler, "linear", 40)
        for sampler, schedule in FIXED:
            row(sampler, schedule, evaluations)


def _latents(
    bundle: Bundle, denoiser: object, item: toy.Asked, conditioning: Conditioning,
    sampler: str, schedule: str, steps: int,
) -> Tensor:  # fmt: skip
    asked = {"seed": item.seed, "sampler": sampler, "schedule": schedule, "steps": steps}
    return pipeline.denoise(denoiser, resolve(bundle, item.prompt, asked), conditioning)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
