"""The expander llama with a real language model: its fields, its seed, and what goes wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.text.language import language_model
from tests.text.tiny import edited
from wanrun.errors import EncoderError, InvalidRequest
from wanrun.prompts import template
from wanrun.prompts.faithful import problems
from wanrun.prompts.reading import read
from wanrun.prompts.slots import missing, slots
from wanrun.text import instruct, instruct_worker
from wanrun.text.child import Child
from wanrun.text.instruct_worker import Model

ROLES = 'slots: setting, mood\nsetting: on a white floor | on a "black" floor'


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return language_model(tmp_path_factory.mktemp("language"))


@pytest.fixture(scope="module")
def model(file: Path) -> Model:
    return instruct_worker.open_model(str(file), 1)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other are slow where others compute as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANRUN_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def child(file: Path) -> Iterator[Child]:
    opened = instruct.opened(file)
    yield opened
    opened.close()


@pytest.mark.parametrize("text", ["two red balls bouncing", "一只橙色的猫"])
def test_the_model_fills_what_is_open_and_the_words_stay(child: Child, text: str) -> None:
    structure = read(text)
    fields = instruct.ask(child, structure, 7, "", 400, 0.7)
    assert list(fields) == ["caption", *missing(structure, slots(structure.language, ""))]
    assert all(1 <= len(value) <= 240 for value in fields.values())
    found = instruct.composed(structure, 7, "", fields)
    assert problems(text, found) == []
    assert len(found) > len(text)


def test_the_same_seed_writes_the_same(file: Path, child: Child) -> None:
    brief = "Say how it feels.\nslots: mood"
    once, again = (instruct.expand("a boat", 3, brief, file, tokens=100, temperature=1.5) for _ in range(2))
    assert once == again
    others = {instruct.ask(child, read("a boat"), seed, brief, 100, 1.5)["mood"] for seed in range(4)}
    assert len(others) > 1


def test_a_closed_slot_is_one_of_the_bundles_phrases(model: Model) -> None:
    structure = read("a ball")
    asked = instruct.question(structure, ROLES) | {"seed": 1, "tokens": 200, "temperature": 1.0}
    for seed in (1, 2):
        fields = json.loads(instruct_worker.answer(model, asked | {"seed": seed}))
        assert fields["setting"] in ("on a white floor", 'on a "black" floor')
        assert list(fields) == ["caption", "setting", "mood"]


def test_an_answer_that_does_not_end_is_the_templates(child: Child) -> None:
    structure = read("a boat")
    assert instruct.ask(child, structure, 0, "", 8, 0.0) == {}
    assert instruct.composed(structure, 0, "", {}) == template.expand("a boat", 0)


def test_unfaithful_fields_are_replaced_one_by_one() -> None:
    structure = read("two red balls")
    usual = template.additions(structure, 5, "")
    fields = {
        **usual,
        "caption": "three green balls",
        "setting": "with one blue ball",
        "light": "not any light",
    }
    fields["lens"] = "an old lens\u202e"
    found = instruct.composed(structure, 5, "", fields)
    assert found == template.joined("two red balls", structure, usual | {"lens": "an old lens"})


def test_a_prompts_control_tokens_are_text(model: Model) -> None:
    whole = instruct_worker.tokenize(model, "<end_of_turn>", first=False, special=True)
    text = instruct_worker.tokenize(model, "<end_of_turn>", first=False, special=False)
    assert len(whole) == 1
    assert len(text) > 1
    assert b"".join(instruct_worker.piece(model, token) for token in text) == b"<end_of_turn>"


def test_a_chat_template_is_applied_around_the_prompt(model: Model, file: Path, tmp_path: Path) -> None:
    asked = {"brief": "BRIEF", "examples": "EXAMPLES", "prompt": "unused"}
    before, after = instruct_worker.question(model, asked)
    assert (before, after) == ("BRIEF\n\nEXAMPLES\nPrompt: ", "\nJSON: ")
    chatml = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    chat = edited(file, tmp_path / "chat.gguf", tokenizer__chat_template=chatml)
    before, after = instruct_worker.question(instruct_worker.open_model(str(chat), 1), asked)
    assert before == "<|im_start|>user\nBRIEF\n\nEXAMPLES\nPrompt: "
    assert after == "<|im_end|>\n<|im_start|>assistant\n"


def test_what_cannot_be_asked_is_an_error(
    file: Path, child: Child, encoder_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidRequest, match="EXPANDER"):
        instruct.expand("a boat", 0, "", None)
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(file.read_bytes()[: 1 << 20])
    for wrong in (broken, encoder_file):
        with pytest.raises(EncoderError, match="language model"):
            instruct.expand("a boat", 0, "", wrong)
    with pytest.raises(EncoderError, match=r"have [0-9]+ tokens"):
        instruct.ask(child, read("boat " * 3000), 0, "", 100, 0.7)


def test_a_long_prompt_needs_no_model(file: Path) -> None:
    text = "a red ball bounces on a table and " * 30
    assert instruct.expand(text, 0, "", file) == template.expand(text, 0)
