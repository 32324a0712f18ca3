"""Which file a shot becomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from wanrun.batch.shots import read_shots
from wanrun.batch.works import Work, identity, works
from wanrun.errors import InvalidRequest, ModelNotFound
from wanrun.request import resolve
from wanrun.store.creation import resolve as open_bundle
from wanrun.store.store import open_store
from wanrun.types import Adapter, Bundle

_FOLDER = Path("videos")


@pytest.fixture
def load() -> Callable[[str], Bundle]:
    """Finds shipped models."""
    return lambda name: open_bundle(open_store(), name)


def named(load: Callable[[str], Bundle], *shots: object) -> list[Work]:
    return works(read_shots(list(shots), "wan-toy"), load, _FOLDER, "mp4")


def test_a_file_is_named_after_the_shot_and_what_decides_its_pixels(load: Callable[[str], Bundle]) -> None:
    made = named(
        load, "A red ball, bouncing!", {"prompt": "x", "name": "star"}, {"prompt": "!?", "steps": "3"}
    )
    assert [work.path.parent for work in made] == [_FOLDER] * 3
    for work, words in zip(made, ["a-red-ball-bouncing", "star", "video"], strict=True):
        assert work.path.name == f"{words}-{identity(work.bundle, work.request)[:12]}.mp4"
    assert not any(work.made for work in made)


@pytest.mark.parametrize(
    "prompt", ["../../etc/passwd", "/etc/passwd", "..", "a\0b", "星星", "-rf *", "x" * 5000]
)
def test_no_prompt_is_a_path(prompt: str, load: Callable[[str], Bundle]) -> None:
    (work,) = named(load, prompt)
    assert work.path.parent == _FOLDER
    assert work.path.name[0] not in ".-"
    assert len(work.path.name.encode()) < 255


def test_the_same_shot_is_the_same_file_and_made_once(load: Callable[[str], Bundle]) -> None:
    once = named(load, "x")
    assert [work.path for work in named(load, "x", {"prompt": "x", "seed": "0"}, " x ")] == [once[0].path]
    assert once[0].request.seed == 0


def test_whatever_decides_a_pixel_decides_the_identity(load: Callable[[str], Bundle]) -> None:
    bundle = load("wan-toy")
    request = resolve(bundle, "x", {"seed": 1})
    own = identity(bundle, request)
    assert identity(bundle, replace(request, notes=("rounded",))) == own
    for changed in (
        replace(request, prompt="y"), replace(request, seed=2), replace(request, steps=3),
        replace(request, shift=1.5), replace(request, cache="easycache"),
    ):  # fmt: skip
        assert identity(bundle, changed) != own
    vae = replace(bundle.components["vae"], digest="sha256:" + "0" * 64)
    assert identity(replace(bundle, components={**bundle.components, "vae": vae}), request) != own
    assert identity(replace(bundle, adapters=(Adapter("", 1.0, vae),)), request) != own


def test_mistakes_that_only_a_model_shows_are_told_with_their_shot(load: Callable[[str], Bundle]) -> None:
    shots = read_shots(
        [{"prompt": "x", "sampler": "eulre"}, {"prompt": "y", "model": "no-such-model"}], "wan-toy"
    )
    with pytest.raises(InvalidRequest) as caught:
        works(shots, load, _FOLDER, "mp4")
    assert "'x': sampler" in str(caught.value)
    assert "'y': " in str(caught.value)
    with pytest.raises(ModelNotFound):
        load("no-such-model")
