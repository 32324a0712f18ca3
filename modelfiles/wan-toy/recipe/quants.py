"""Measures what each type costs wan-toy: as published files are made, calibrated, and mixed by sensitivity.

    python quants.py REFERENCE WORK TYPE… --videos 24 --steps 10 --guidance 2

REFERENCE is a bundle of wan-toy's experts in F16. WORK holds what ``wanrun calibrate REFERENCE -o
WORK/imatrix.gguf`` and ``wanrun mix REFERENCE -o WORK/any.yaml --table WORK/toy.measured --imatrix
WORK/imatrix.gguf`` made. Prints a row of a table for each type and way, of prompts that neither has seen.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

import wanrun
from wanrun import pipeline
from wanrun.convert.mix import solve, standard_bytes
from wanrun.convert.together import denoise_together
from wanrun.evaluate import toy
from wanrun.evaluate.metrics import psnr, relative_error
from wanrun.gguf.header import read_header
from wanrun.gguf.imatrix import Imatrix, read_imatrix
from wanrun.modelfile.document import ComponentLine, Modelfile
from wanrun.request import resolve
from wanrun.store.creation import create
from wanrun.store.store import open_store
from wanrun.types import Bundle, Conditioning, Frame, GenerationRequest
from wanrun.wan.recipe import Rules
from wanrun.wan.requantize import Importance, quantize_transformer

#: By the rules of published files; with llama.cpp's importance alone; with the products too; and the mix.
WAYS = ("standard", "importance", "calibrated", "mixed")


def without_products(seen: Imatrix) -> Imatrix:
    """What llama.cpp knows of it."""
    moments = {name: replace(found, products=None) for name, found in seen.moments.items()}
    return replace(seen, moments=moments)


def quantised(reference: Bundle, work: Path, kind: str, way: str) -> Bundle:
    """``reference`` with its experts in ``kind``, the mix in as many bytes as the standard's."""
    lines = [ComponentLine(role, str(part.path)) for role, part in reference.components.items()
             if role not in reference.experts]  # fmt: skip
    for role, component in reference.experts.items():
        path = work / f"{kind}-{way}-{role}.gguf"
        path.unlink(missing_ok=True)
        importance = None
        rules: Rules = ()
        if way != "standard":
            seen = read_imatrix(work / f"imatrix-{role}.gguf")
            importance = Importance(without_products(seen) if way == "importance" else seen)
        if way == "mixed":
            header = read_header(component.path)
            errors = json.loads((work / "toy.measured").read_text())["errors"][role]
            rules = solve(header, errors, standard_bytes(header, kind), kind, {}).rules
        quantize_transformer(component.path, path, kind, pipeline.silent, importance, rules)
        lines.append(ComponentLine(role, str(path)))
    name = f"quants-{kind.lower()}-{way}"
    modelfile = Modelfile(components=tuple(lines), parameters=reference.parameters)
    return create(open_store(), name, modelfile, work)


class Videos:
    """The suite's videos by one bundle after the other."""

    def __init__(self, reference: Bundle, count: int, settings: dict[str, object]) -> None:
        self.asked = toy.spread(toy.suite(), count)
        self.requests: list[GenerationRequest] = [
            resolve(reference, item.prompt, {"seed": item.seed, "precision": "fp32", **settings})
            for item in self.asked
        ]
        self.conditionings: list[Conditioning] = pipeline.encode_all(reference, self.requests)
        self.latents, self.frames = self.make(reference)

    def make(self, bundle: Bundle) -> tuple[Tensor, list[list[Frame]]]:
        first = self.requests[0]
        with pipeline.open_experts(bundle, first.boundary, "cpu", "fp32", 1 << 30) as denoiser:
            latents = denoise_together(denoiser, self.requests, self.conditionings)
        with pipeline.open_decoder(bundle, first, "cpu") as decoder:
            return latents, [list(pipeline.decode(decoder, first, each)) for each in latents]

    def row(self, bundle: Bundle) -> tuple[float, float, dict[str, float]]:
        """Mean latent error, mean PSNR, and the parts of the suite's criteria that are right."""
        latents, frames = self.make(bundle)
        errors = [relative_error(a.numpy(), b.numpy()) for a, b in zip(latents, self.latents, strict=True)]
        return float(np.mean(errors)), self._psnr(frames), self.scores(frames)

    def _psnr(self, frames: list[list[Frame]]) -> float:
        return float(np.mean([psnr(a, b) for a, b in zip(frames, self.frames, strict=True)]))

    def scores(self, frames: list[list[Frame]]) -> dict[str, float]:
        verdicts = [toy.judge(item, clip) for item, clip in zip(self.asked, frames, strict=True)]
        asked = {name: [v.right[name] for v in verdicts if name in v.right] for name in toy.CRITERIA}
        return {name: float(np.mean(right)) for name, right in asked.items() if right}


def megabytes(bundle: Bundle) -> float:
    return sum(component.size for component in bundle.experts.values()) / 1e6


def cells(scores: dict[str, float]) -> str:
    return " | ".join(f"{100 * scores[name]:.0f}" for name in toy.CRITERIA)


def rows(reference: Bundle, work: Path, kinds: list[str], ways: list[str], videos: Videos) -> Iterator[str]:
    yield "| type | way | MB | latent error | PSNR | " + " | ".join(toy.CRITERIA) + " |"
    yield "|---" * (5 + len(toy.CRITERIA)) + "|"
    yield f"| F16 | | {megabytes(reference):.2f} | | | {cells(videos.scores(videos.frames))} |"
    for kind in kinds:
        for way in ways:
            bundle = quantised(reference, work, kind, way)
            error, decibels, scores = videos.row(bundle)
            facts = f"{megabytes(bundle):.2f} | {error:.2%} | {decibels:.1f}"
            yield f"| {kind} | {way} | {facts} | {cells(scores)} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("reference")
    parser.add_argument("work", type=Path)
    parser.add_argument("kinds", nargs="+")
    parser.add_argument("--videos", type=int, default=140)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=3)
    parser.add_argument("--ways", default=",".join(WAYS))
    given = parser.parse_args()
    torch.manual_seed(0)
    model = wanrun.load(given.reference)
    made = Videos(model, given.videos, {"steps": given.steps, "guidance": given.guidance})
    for line in rows(model, given.work, given.kinds, given.ways.split(","), made):
        click.echo(line)
