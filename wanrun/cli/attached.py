"""Puts into rows what reports and recipes say, which come with models from anybody."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from wanrun.cli.tables import human_bytes
from wanrun.errors import FormatError
from wanrun.store.attachments import REPORT_TYPE
from wanrun.store.manifests import Layer
from wanrun.wan.recipe import parse_recipe

Rows = list[tuple[str, str]]


def summary(layer: Layer, data: bytes) -> tuple[str, Rows]:
    """A title and rows; what is not as it should be is left out."""
    if layer.media_type == REPORT_TYPE:
        return "Report", [("file", layer.title), *_report(data)]
    return "Recipe", [("file", layer.title), *_recipe(data, layer)]


def _report(data: bytes) -> Iterator[tuple[str, str]]:
    try:
        report = json.loads(data)
    except (ValueError, RecursionError):
        return
    yield "suite", str(_at(report, "suite"))
    if name := _at(report, "reference", "name"):
        yield "compared with", str(name)
    if isinstance(videos := _at(report, "videos") or _at(report, "clips"), list):
        yield "videos", str(len(videos))
    for label, key, form in (
        ("latent error", "error", "{:.2%}"),
        ("cosine", "cosine", "{:.5f}"),
        ("PSNR", "psnr", "{:.1f} dB"),
        ("SSIM", "ssim", "{:.4f}"),
        ("LPIPS", "lpips", "{:.4f}"),
    ):
        value = _at(report, "mean", key)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            yield label, form.format(value)
    scores = _at(report, "model", "toy")
    if isinstance(scores, dict) and all(isinstance(score, (int, float)) for score in scores.values()):
        yield "toy suite", ", ".join(f"{name} {score:.0%}" for name, score in scores.items())
    rates = _at(report, "rates")
    if isinstance(rates, dict):
        yield from ((group, _rates(found)) for group, found in rates.items() if isinstance(found, dict))


def _rates(found: Mapping[str, Any]) -> str:
    pairs = {name: rate for name, rate in found.items() if isinstance(rate, list) and len(rate) == 2}
    return ", ".join(f"{name} {right}/{total}" for name, (right, total) in pairs.items())


def _recipe(data: bytes, layer: Layer) -> Iterator[tuple[str, str]]:
    try:
        recipe = parse_recipe(data, layer.title)
    except FormatError:
        return
    if recipe.base:
        yield "base", recipe.base
    counts: dict[str, int] = {}
    for _, kind in recipe.rules:
        counts[kind] = counts.get(kind, 0) + 1
    yield "matrices", ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    if isinstance(size := recipe.about.get("bytes"), int):
        yield "size", human_bytes(size)


def _at(value: object, *keys: str) -> object:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
