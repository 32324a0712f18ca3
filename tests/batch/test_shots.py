"""What a file of shots asks for."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from wanrun.batch.document import parse
from wanrun.batch.shots import MOST, read_shots
from wanrun.errors import InvalidRequest


def shots(text: str, model: str | None = "m") -> list[tuple[Any, ...]]:
    return [
        (shot.model, shot.prompt, shot.name, dict(shot.asked), dict(shot.varied))
        for shot in read_shots(parse(text.encode(), "x.yaml"), model)
    ]


def test_a_list_of_prompts_is_enough() -> None:
    assert shots("- a red ball\n- ' a star '") == [
        ("m", "a red ball", "", {}, {}),
        ("m", "a star", "", {}, {}),
    ]


def test_shots_have_their_own_words_over_the_files() -> None:
    found = shots(
        "model: a\nsteps: 20\nsize: 64x32\nshots:\n- x\n- {prompt: y, steps: 3, model: b, name: n 1}\n"
        "- {prompt: z, negative: ''}"
    )
    assert found == [
        ("a", "x", "", {"steps": 20, "size": (64, 32)}, {}),
        ("b", "y", "n 1", {"steps": 3, "size": (64, 32)}, {}),
        ("a", "z", "", {"steps": 20, "size": (64, 32), "negative": ""}, {}),
    ]


def test_a_matrix_is_every_combination_the_last_key_fastest() -> None:
    text = "matrix: {seed: [1, 2], guidance: ['2', '3.5', '2']}\nprompt: x"
    assert [(each[3]["seed"], each[3]["guidance"]) for each in shots(text)] == [
        (1, 2.0), (1, 3.5), (2, 2.0), (2, 3.5),
    ]  # fmt: skip
    assert shots(text)[1][4] == {"seed": "1", "guidance": "3.5"}


def test_a_matrix_may_vary_prompts_and_models() -> None:
    found = shots("matrix: {model: [a, b], prompt: [x, y]}", None)
    assert [each[:2] for each in found] == [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")]


def test_what_a_shot_sets_the_files_matrix_does_not_vary() -> None:
    text = "matrix: {seed: [1, 2], steps: [3, 4]}\nshots:\n- x\n- {prompt: y, seed: 9, matrix: {steps: [5]}}"
    assert [(each[1], each[3]) for each in shots(text)] == [
        ("x", {"seed": 1, "steps": 3}), ("x", {"seed": 1, "steps": 4}),
        ("x", {"seed": 2, "steps": 3}), ("x", {"seed": 2, "steps": 4}),
        ("y", {"seed": 9, "steps": 5}),
    ]  # fmt: skip


def test_frames_and_seconds_are_one_thing_said_twice() -> None:
    assert shots("frames: 9\nshots: [{prompt: x, seconds: 1.5}]")[0][3] == {"seconds": 1.5}
    assert shots("seconds: 2\nshots: [{prompt: x, frames: 5}]")[0][3] == {"frames": 5}


@pytest.mark.parametrize(
    ("text", "reasons"),
    [
        ("word", ["a file of shots is"]),
        ("shots: []", ["at least one prompt"]),
        ("shots: {a: b}", ["at least one prompt"]),
        ("- x\n- [a]\n- {steps: 3}\n- {prompt: ' '}", ["2 must be", "2 has no", "3 has no", "4: the"]),
        ("- {promt: x}", ["unknown key 'promt': did you mean 'prompt'?", "has no prompt"]),
        ("stepps: 3\nprompt: x", ["the file: unknown key 'stepps': did you mean 'steps'?"]),
        ("name: n\nshots: [x]", ["a name is a shot's own"]),
        ("- {prompt: x, steps: 0}\n- {prompt: y, seed: abc}", ["shot 1: steps", "shot 2: seed"]),
        ("- {prompt: x, seed: }", ["seed must be"]),
        ("- {prompt: x, seed: [1, 2]}", ["seed must be one value; several belong into its matrix"]),
        ("- {prompt: [x]}", ["prompt must be one value"]),
        ("- {prompt: x, seconds: nan}", ["seconds must be a number"]),
        ("- {prompt: x, matrix: [1]}", ["matrix must have lists"]),
        ("- {prompt: x, matrix: {seed: 1}}", ["seed must be a list"]),
        ("- {prompt: x, matrix: {seed: []}}", ["seed must be a list"]),
        ("- {prompt: x, matrix: {seed: [[1]]}}", ["seed must be a list"]),
        ("- {prompt: x, matrix: {seed: [1, -1]}}", ["seed must be"]),
        ("- {prompt: x, matrix: {name: [a]}}", ["unknown key 'name'"]),
        ("matrix: 7\nshots: [x, {prompt: y, matrix: {seed: [1]}}]", ["shot 1: matrix must"]),
    ],
)  # fmt: skip
def test_mistakes_are_listed_with_their_shot(text: str, reasons: list[str]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        shots(text)
    assert len(str(caught.value).splitlines()) == len(reasons)
    for reason in reasons:
        assert reason in str(caught.value)


def test_a_model_must_be_named() -> None:
    with pytest.raises(InvalidRequest, match="has no model"):
        shots("- x", None)


@pytest.mark.parametrize(
    "name",
    ["../x", "a/b", "/etc/passwd", "..", ".hidden", "a\\b", "C:x", "x.", "x ", "", "a" * 61, "-o", "a\tb"],
)
def test_names_are_no_paths(name: str) -> None:
    text = yaml.safe_dump([{"prompt": "x", "name": name}])
    if not name:
        assert shots(text)[0][2] == ""
        return
    with pytest.raises(InvalidRequest, match="a name has letters"):
        shots(text)


@pytest.mark.parametrize("name", ["star", "Ⅻ 星", "a.b-c_d 2"])
def test_names_of_any_script(name: str) -> None:
    assert shots(yaml.safe_dump([{"prompt": "x", "name": name}]))[0][2] == name


def test_endless_matrices_are_refused_before_they_are_made() -> None:
    many = ", ".join(str(number) for number in range(1, 900))
    text = f"prompt: x\nmatrix: {{seed: [{many}], steps: [{many}], shift: [{many}], guidance: [1, 2]}}"
    with pytest.raises(InvalidRequest, match=f"asks for {2 * 899**3} videos, at most {MOST}"):
        shots(text)
    with pytest.raises(InvalidRequest, match="at most"):
        read_shots(["x"] * (MOST + 1), "m")


def test_of_many_mistakes_the_first_are_told() -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_shots([{"prompt": "x", "steps": "0"}] * 50, "m")
    assert str(caught.value).splitlines()[-1] == "and 30 more"
