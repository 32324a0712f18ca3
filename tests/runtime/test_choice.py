"""Settings for a time or a level, against costs that are known in closed form."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

import wanrun
from wanrun.errors import InvalidRequest
from wanrun.request import resolve
from wanrun.runtime.advised import read_level, read_target
from wanrun.runtime.choice import Chooser, Level, Wish
from wanrun.runtime.quality import Table, Way
from wanrun.types import Bundle, GenerationRequest

FIXED_S, STEP_S = 3.0, 0.2
EULER = Way("euler", "linear", "none", (4, 10, 20, 40), (0.5, 0.8, 0.9, 0.92), (1.0,) * 4)
UNIPC = Way("unipc", "unipc", "none", (4, 10, 20, 40), (0.3, 0.85, 0.95, 0.95), (1.0,) * 4)
CACHED = Way("unipc", "unipc", "easycache", (20, 40), (0.9, 0.945), (0.8, 0.5))
TABLE = Table((EULER, UNIPC, CACHED), "toy")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANRUN_HOME", str(tmp_path_factory.mktemp("toy")))
        return wanrun.load("wan-toy")


def cost(request: GenerationRequest, computed: float) -> float:
    area = request.width * request.height / (64 * 64)
    decoding = 0.1 if request.decoder == "tiny" else 1.0
    return FIXED_S + area * (STEP_S * request.steps * computed + decoding)


def chooser(toy: Bundle, table: Table = TABLE, tiny: bool = False, **named: Any) -> Chooser:
    request = resolve(toy, "a red ball", {"seed": 1, **named})
    return Chooser(request, frozenset(named), tiny, table, cost)


def test_ten_targets_are_used_up_and_kept(toy: Bundle) -> None:
    for target in (5, 8, 12, 18, 25, 35, 50, 70, 95, 120):
        choice = chooser(toy).choose(Wish(target))
        assert 0.85 * target <= choice.seconds <= target, choice
        assert choice.seconds == cost(resolve(toy, "a red ball", choice.settings), CACHED.part(40)
                                      if choice.settings["cache"] == "easycache" else 1.0)  # fmt: skip


def test_the_best_that_is_done_in_time(toy: Bundle) -> None:
    full = (64, 64)
    short = chooser(toy, size=full).choose(Wish(5.5)).settings
    middle, long = (chooser(toy).choose(Wish(target)).settings for target in (7, 30))
    assert (short["sampler"], short["steps"]) == ("euler", 6)
    assert (middle["sampler"], middle["cache"], middle["steps"]) == ("unipc", "none", 13)
    assert (long["sampler"], long["cache"]) == ("unipc", "easycache")  # as good, and it uses the time up
    assert middle["size"] == long["size"] == full
    smaller = chooser(toy).choose(Wish(5.5)).settings
    assert (smaller["sampler"], smaller["size"]) == ("unipc", (48, 48))


def test_levels_take_no_longer_than_they_need(toy: Bundle) -> None:
    draft, good, best = (chooser(toy).choose(Wish(level=level)) for level in LEVELS)
    # 0.9 · 0.95 lies just above ten steps of unipc
    assert (draft.settings["sampler"], draft.settings["steps"]) == ("unipc", 11)
    assert 0.98 * 0.95 <= good.score < 0.95
    assert (best.settings["sampler"], best.settings["cache"], best.settings["steps"]) == ("unipc", "none", 20)
    assert draft.seconds < good.seconds < best.seconds
    assert re.fullmatch(
        r"chosen: sampler unipc, schedule unipc, steps 20, cache none, decoder vae, size 64x64; about 8 s; "
        r"costs no quality \(measured by the suite toy\)",
        best.text,
    )
    assert "costs 9% of the best quality" in draft.text


LEVELS: tuple[Level, ...] = ("draft", "good", "best")


def test_a_level_in_a_time(toy: Bundle) -> None:
    assert chooser(toy).choose(Wish(100, "draft")) == chooser(toy).choose(Wish(level="draft"))
    hurried = chooser(toy).choose(Wish(6, "best"))
    assert hurried.seconds <= 6
    assert hurried.score < 0.95


def test_what_the_user_named_stays(toy: Bundle) -> None:
    named: dict[str, Any] = {"sampler": "euler", "steps": 7, "size": (128, 128), "decoder": "vae"}
    choice = chooser(toy, tiny=True, **named).choose(Wish(60))
    assert set(choice.settings) == {"schedule", "cache"}
    other = chooser(toy, sampler="dpm++2m").choose(Wish(20))
    assert "sampler" not in other.settings
    assert other.settings["schedule"] == "linear"
    with pytest.raises(InvalidRequest, match=r"in 5 s: it takes 14\.1 s at least while size stay as asked"):
        chooser(toy, size=(192, 192)).choose(Wish(5))


def test_the_size_gives_way_last(toy: Bundle) -> None:
    def sized(wide: Chooser, target: float) -> dict[str, Any]:
        return dict(wide.choose(Wish(target)).settings)

    large = chooser(toy, tiny=True)
    large = replace(
        large, request=replace(large.request, width=512, height=512, latent_shape=(16, 5, 64, 64))
    )
    assert sized(large, 300)["size"] == (512, 512)
    assert sized(large, 300)["decoder"] == "vae"
    tight = sized(large, 60)
    assert tight["size"][0] < 512
    assert sized(large, 12)["decoder"] == "tiny"
    with pytest.raises(InvalidRequest, match="nothing is done in 3 s"):
        large.choose(Wish(3))


def test_a_distilled_model_keeps_its_steps(toy: Bundle) -> None:
    made_for = "custom:1,0.9375,0.8333333333333334,0.625,0"
    table = Table((Way("euler", made_for, "none", (4,), (1.0,), (1.0,), distilled=True),))
    for wish in (Wish(60), Wish(level="draft"), Wish(level="best")):
        settings = chooser(toy, table).choose(wish).settings
        assert (settings["steps"], settings["schedule"]) == (4, made_for)
    assert "by rule: nothing was measured" in chooser(toy, table).choose(Wish(60)).text


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, None), (60, 60.0), (0.5, 0.5), ("90s", 90.0), ("1m30s", 90.0), (" 2m ", 120.0)],
)
def test_targets(value: object, seconds: float | None) -> None:
    assert read_target(value) == seconds


@pytest.mark.parametrize(
    "value", ["", "soon", "60", "-5s", 0, -1, "0s", "nans", float("inf"), True, [], "9999999h"]
)
def test_what_is_no_target(value: object) -> None:
    with pytest.raises(InvalidRequest, match="target must be"):
        read_target(value)


@pytest.mark.parametrize("value", ["", "Draft", "great", 1, True, []])
def test_what_is_no_level(value: object) -> None:
    with pytest.raises(InvalidRequest, match="quality must be one of draft, good, best"):
        read_level(value)
