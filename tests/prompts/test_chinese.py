"""What the Chinese reader makes of prompts."""

from __future__ import annotations

from tests.prompts.test_english import check
from wanrun.prompts.reading import is_chinese, read


def test_attributes_numbers_and_where_it_happens() -> None:
    found = read("一只橙色的猫在雪地里奔跑")
    check(found)
    cat, snow = found.objects
    assert (cat.text, cat.noun, cat.colours, cat.count) == ("一只橙色的猫", "猫", ("橙色",), 1)
    assert (snow.noun, snow.role) == ("雪地", "place")
    assert [(each.text, each.subjects) for each in found.actions] == [("奔跑", (0,))]
    assert [(each.subject, each.text, each.object) for each in found.relations] == [(0, "里", 1)]


def test_two_objects_and_the_side_behind_the_second() -> None:
    found = read("红球在蓝色方块的左边")
    assert [(item.colours, item.noun) for item in found.things] == [(("红",), "球"), (("蓝色",), "方块")]
    assert [(each.subject, each.text, each.object) for each in found.relations] == [(0, "左边", 1)]


def test_what_is_said_before_the_noun_belongs_to_it() -> None:
    found = read("一个穿着红色外套的男人和一个穿着绿色裙子的女人在街上散步")
    check(found)
    names = [item.noun for item in found.objects]
    assert names == ["外套", "男人", "裙子", "女人", "街上"]
    worn = [(names[each.subject], names[each.object]) for each in found.relations if each.text == "穿着"]
    assert worn == [("男人", "外套"), ("女人", "裙子")]
    walking = found.actions[-1]
    assert (walking.text, [names[index] for index in walking.subjects]) == ("散步", ["男人", "女人"])


def test_counts() -> None:
    found = read("两只小狗和三只白色的兔子在草地上玩耍")
    assert [(item.noun, item.count) for item in found.things] == [("小狗", 2), ("兔子", 3)]
    assert found.actions[0].subjects == (0, 1)


def test_words_within_words_stay_whole() -> None:
    assert [item.noun for item in read("白菜和金鱼").things] == ["白菜", "金鱼"]
    assert [item.noun for item in read("一个红色的圆环").things] == ["圆环"]


def test_the_language_is_the_one_of_most_words() -> None:
    assert is_chinese("一只 cat 在雪地里")
    assert not is_chinese("a cat named 猫")
    assert not is_chinese("")
    assert not is_chinese("🐈")
