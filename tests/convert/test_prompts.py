"""The prompts that ship are many and different, and files of others are read or refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.recipe import modules
from wanrun import load
from wanrun.convert.prompts import default, read, shipped, slice_of, spread
from wanrun.errors import FormatError, InvalidRequest, ModelNotFound
from wanrun.evaluate.toy import suite


def test_five_hundred_different_prompts_in_two_languages() -> None:
    prompts = shipped("video")
    assert len(set(prompts)) == len(prompts) == 500
    assert 100 <= sum(bool(re.search("[\u4e00-\u9fff]", prompt)) for prompt in prompts) <= 250
    lengths = sorted(len(prompt.split()) for prompt in prompts if prompt.isascii())
    assert lengths[0] == 1
    assert lengths[-1] > 40
    words = {word for prompt in prompts for word in re.findall("[a-z]+", prompt.lower())}
    assert len(words) > 2000


def test_wan_toy_is_calibrated_on_what_it_is_not_tested_on() -> None:
    prompts = shipped("toy")
    assert not {prompt.lower() for prompt in prompts} & {asked.prompt.lower() for asked in suite()}
    with modules() as recipe:
        assert prompts == recipe["calibration"].prompts()
    assert default(load("wan-toy")) == "toy"


def test_files_of_prompts(tmp_path: Path) -> None:
    text, listed = tmp_path / "prompts.txt", tmp_path / "prompts.yaml"
    text.write_text("a ball\n\n  一只猫  \n", encoding="utf-8")
    listed.write_text("- a ball\n- 一只猫\n", encoding="utf-8")
    assert read(str(text)) == read(str(listed)) == ["a ball", "一只猫"]


@pytest.mark.parametrize("content", ["", "a: b", "- [a]", "- ''", "[", "- 3"])
def test_files_without_prompts_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "prompts.yaml"
    path.write_text(content)
    with pytest.raises(FormatError, match=r"prompts\.yaml"):
        read(str(path))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="video, toy"):
        read("vidoe")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FormatError, match="no text"):
        read(str(tmp_path / "bytes.txt"))


def test_parts_make_up_the_whole() -> None:
    items = list(range(10))
    assert sorted(slice_of(items, (1, 3)) + slice_of(items, (2, 3)) + slice_of(items, (3, 3))) == items
    assert spread(items, 5) == [0, 2, 4, 6, 8]
    assert spread(items, None) == spread(items, 99) == items
    for part in ((0, 3), (4, 3), (11, 11), (1, 0)):
        with pytest.raises(InvalidRequest, match="no part"):
            slice_of(items, part)
