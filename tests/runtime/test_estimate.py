"""Requests against what a machine has: what is refused, and what is suggested instead."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import wanrun
from tests.modelfile.files import lora, save
from tests.runtime.machines import MACHINE
from wanrun import pipeline
from wanrun.errors import OutOfMemoryBudget
from wanrun.request import resolve
from wanrun.runtime import advice, machine
from wanrun.runtime.advice import Replan
from wanrun.runtime.estimate import Estimator, changed, describe, evaluations, open_estimator
from wanrun.runtime.shapes import Autoencoder
from wanrun.runtime.work import forward
from wanrun.text.keys import context_path
from wanrun.types import Adapter, Bundle, Component, GenerationRequest

GB = 10**9


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANRUN_HOME", str(tmp_path_factory.mktemp("toy")))
        return wanrun.load("wan-toy")


def request(bundle: Bundle, **asked: Any) -> GenerationRequest:
    return resolve(bundle, "a red ball", {"seed": 1, **asked})


def estimator(bundle: Bundle, limit: int) -> Estimator:
    return Estimator(bundle, MACHINE, limit, True)


def test_parts_are_read_from_headers(toy: Bundle) -> None:
    parts = estimator(toy, GB).read(request(toy), "bf16")
    high, low = parts.experts
    assert (high.role, low.role) == ("high_noise", "low_noise")
    assert (high.width, high.ffn_width, high.layers) == (256, 1024, 4)
    matrices = 4 * (8 * 256 * 256 + 2 * 256 * 1024)
    assert high.packed == {"Q8_0": matrices}
    assert (high.matrices, high.largest_bytes) == (40, 2 * 256 * 1024)
    assert high.stored.kept_bytes >= matrices * 34 // 32
    # time_embedding, time_projection and head become float32, text_embedding bf16
    assert high.stored.copied_bytes >= 4 * (2 * 256 * 256 + 1536 * 256 + 64 * 256) + 2 * 2 * 256 * 256
    assert high.stored.copied_bytes + high.stored.kept_bytes < 2 * toy.components["high_noise"].size
    assert isinstance(parts.decoder, Autoencoder)
    assert (parts.decoder.width, parts.decoder.latent_channels, parts.decoder.patch) == (16, 16, 1)
    assert (parts.encoder.width, parts.encoder.heads, parts.encoder.kind) == (256, 4, "F16")


def test_adapters_are_counted_with_their_expert(toy: Bundle, tmp_path: Path) -> None:
    path = save(tmp_path / "lora.safetensors", lora(256, layers=4, rank=8))
    adapter = Adapter("low_noise", 1.0, Component("adapter", path, "", path.stat().st_size, path.name))
    plain = estimator(toy, GB).read(request(toy), "bf16").experts
    high, low = estimator(replace(toy, adapters=(adapter,)), GB).read(request(toy), "bf16").experts
    elements = 4 * (8 * (256 + 256) + 2 * 8 * (256 + 512) + 3)
    assert high == plain[0]
    assert low.adapter_elements == elements
    assert low.stored.copied_bytes == plain[1].stored.copied_bytes + 2 * elements
    assert low.stored.file_bytes == plain[1].stored.file_bytes + 2 * elements  # stored as float16
    assert forward(low, 100).linear == forward(plain[1], 100).linear + 2 * 100 * elements


def test_a_mix_makes_experts_smaller_without_a_file(toy: Bundle) -> None:
    now, then = (estimator(toy, GB).read(request(toy), "bf16", mix).experts[0] for mix in (None, "Q4_K_M"))
    assert set(then.packed) == {"Q4_K", "Q6_K"}
    assert sum(then.packed.values()) == sum(now.packed.values())
    assert then.stored.kept_bytes < 0.75 * now.stored.kept_bytes


def test_plain_matrices_are_copied_unless_they_are_what_is_wanted(toy: Bundle) -> None:
    floats = estimator(toy, GB).read(request(toy), "bf16", "F16").experts[0]
    assert floats.packed == {}
    assert floats.stored.copied_bytes > 2 * 4 * (8 * 256 * 256 + 2 * 256 * 1024)
    same = estimator(toy, GB).read(request(toy), "bf16", "BF16").experts[0]
    assert same.stored.copied_bytes < floats.stored.copied_bytes / 2


def test_evaluations_are_divided_at_the_boundary(toy: Bundle) -> None:
    asked = request(toy, steps=20)
    high, low = evaluations(asked)
    assert high + low == 40
    assert high > 0
    assert low > high
    assert evaluations(replace(asked, guidance_high=1.0)) == (high // 2, low)
    assert evaluations(replace(asked, boundary=None)) == (40,)
    inside = replace(asked, boundary=None, guidance_start=0.9, guidance_end=0.5)
    assert evaluations(inside) == (20 + sum(0.5 <= level <= 0.9 for level in pipeline.sigmas(asked)),)
    assert evaluations(replace(asked, boundary=0.0))[1] == 0


def test_evaluations_are_the_samplers_and_the_schedules(toy: Bundle) -> None:
    """Heun asks again about the end of every step but the last; a list decides which expert is asked."""
    asked = replace(resolve(toy, "x", {"schedule": "linear", "guidance": 1.0}), boundary=None)
    assert evaluations(asked) == (20,)
    assert evaluations(replace(asked, sampler="heun")) == (39,)
    written = resolve(toy, "x", {"schedule": "custom:1,0.9,0.8,0", "sampler": "euler", "guidance": 1.0})
    assert written.steps == 3
    assert "20 steps become 3" in written.notes[-1]
    assert evaluations(written) == (2, 1)
    assert evaluations(replace(written, sampler="heun")) == (3, 2)


def test_known_prompts_need_no_encoder(toy: Bundle, home: Path) -> None:
    asked = request(toy)
    assert describe(toy, asked, "bf16").prompts == 2
    for text in (asked.prompt, asked.negative):
        path = context_path(home / "cache" / "contexts", toy.components["text_encoder"].digest, text)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"rows")
    assert describe(toy, asked, "bf16").prompts == 0
    unguided = replace(asked, prompt="another", guidance_high=1.0, guidance_low=1.0)
    assert describe(toy, unguided, "bf16").prompts == 1


def test_a_changed_request_is_what_the_model_makes(toy: Bundle) -> None:
    other = changed(request(toy), {"size": (128, 64), "frames": 5})
    again = request(toy, size=(128, 64), frames=5)
    assert other == again


def test_what_fits_is_planned(toy: Bundle) -> None:
    planned = estimator(toy, GB).check(request(toy))
    assert planned.fits
    assert planned.memory < GB


@pytest.mark.parametrize("size", [(512, 512), (832, 480), (256, 1024)])
def test_what_is_suggested_fits_when_it_is_tried(toy: Bundle, size: tuple[int, int]) -> None:
    asked, limited = request(toy, size=size, frames=81), estimator(toy, 500_000_000)
    with pytest.raises(OutOfMemoryBudget) as refused:
        limited.check(asked)
    message = str(refused.value)
    peak = advice.gigabytes(limited.plan(asked).memory)
    assert f"{peak} of memory (vae) and 500 MB is allowed" in message
    lines = [line.split("  ")[1].split() for line in message.splitlines() if line.startswith("  ")]
    assert lines
    for words in lines:
        assert words[::2] == ["--size"]
        other = resolve(toy, "x", {"seed": 1, "frames": 81, words[0][2:]: words[1]})
        assert not other.notes
        assert limited.check(other).fits
        assert other.width * other.height < size[0] * size[1]


def test_the_largest_size_that_fits_is_suggested(toy: Bundle) -> None:
    asked, limited = request(toy, size=(512, 512)), estimator(toy, 500_000_000)
    (found,) = advice.nearest("wan-toy", asked, False, lambda changes: limited.plan(changed(asked, changes)))
    side, _ = found.changes["size"]
    assert not limited.plan(changed(asked, {"size": (side + 16, side + 16)})).fits


def test_each_setting_that_helps_is_named(toy: Bundle) -> None:
    asked, plentiful, small = request(toy, frames=81), estimator(toy, GB), estimator(toy, 1)

    def only(key: str) -> Replan:
        return lambda changes: (plentiful if key in changes else small).plan(asked)

    def texts(key: str) -> list[str]:
        return [each.text for each in advice.nearest("wan-toy", asked, True, only(key))]

    assert texts("quant") == ["wan-toy:q8_0"]
    assert texts("decoder") == ["--decoder tiny"]
    assert texts("size") == ["--size 48x48"]
    assert texts("frames") == ["--frames 77"]


def test_settings_are_combined_where_none_helps_alone(toy: Bundle) -> None:
    asked, plentiful, small = request(toy, frames=81), estimator(toy, GB), estimator(toy, 1)

    def replan(changes: Any) -> Any:
        return (plentiful if len(changes) == 3 else small).plan(asked)

    (found,) = advice.nearest("wan-toy", asked, True, replan)
    assert found.text == "--decoder tiny --frames 1 --size 48x48"


def test_where_nothing_fits_that_is_said(toy: Bundle) -> None:
    with pytest.raises(OutOfMemoryBudget, match="Nothing smaller"):
        estimator(toy, 1000).check(request(toy))


def test_the_limit_is_what_was_given_or_set_or_is_free(toy: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.save(MACHINE, "auto")
    free = open_estimator(toy, "auto", None)
    assert (free.told, free.limit > 0) == (False, True)
    monkeypatch.setenv("WANRUN_MEMORY", "3GB")
    assert open_estimator(toy, "auto", None).limit == 3 * GB
    assert open_estimator(toy, "auto", 2 * GB).limit == 2 * GB


def test_an_accelerators_limit_is_its_memory_unless_one_is_given(toy: Bundle) -> None:
    gpu = replace(MACHINE, device="cuda", device_bytes=24e9, link=1e10)
    assert Estimator(toy, gpu, GB, False).plan(request(toy)).device_limit == 24 * GB
    assert Estimator(toy, gpu, GB, True).plan(request(toy)).device_limit == GB


def test_a_composed_prompt_takes_a_third_forward_while_objects_get_their_shape(toy: Bundle) -> None:
    asked = {"seed": 1, "steps": 20, "compose": 2.0}
    composed = resolve(toy, "a red ball left of a blue star on a white ground", asked)
    plain = replace(composed, compose=0.0)
    within = [sum(level >= 0.6 for level in levels) for levels in _sides(plain)]
    more = [
        with_it - without for with_it, without in zip(evaluations(composed), evaluations(plain), strict=True)
    ]
    assert more == within
    assert sum(more) > 5
    assert describe(toy, composed, "bf16").prompts == describe(toy, plain, "bf16").prompts + 1
    alone = resolve(toy, "a red ball on a white ground", asked)
    assert evaluations(alone) == evaluations(plain)


def _sides(asked: GenerationRequest) -> tuple[list[float], list[float]]:
    """The levels at which each expert answers."""
    levels, boundary = pipeline.sigmas(asked)[:-1], asked.boundary or 0.0
    return [each for each in levels if each >= boundary], [each for each in levels if each < boundary]
