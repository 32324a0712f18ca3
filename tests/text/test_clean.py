"""Checks prompt cleaning against strings worked out by hand."""

from __future__ import annotations

import pytest

from wanrun.text.clean import clean


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("a red ball", "a red ball"),
        ("  a\t red \n\n ball\u3000\u00a0", "a red ball"),
        ("Tom &amp; Jerry", "Tom & Jerry"),
        ("Tom &amp;amp; Jerry", "Tom & Jerry"),
        ("&lt;b&gt;&nbsp;&amp;nbsp;x", "<b> x"),
        ("cafÃ©", "café"),
        ("It\u2019s \u201cred\u201d", 'It\'s "red"'),
        ("ﬁne ｆｕｌｌ", "fine full"),
        ("e\u0301", "é"),
        ("一只猫\u2028在雪地里", "一只猫 在雪地里"),
        ("👩\u200d👩\u200d👧", "👩\u200d👩\u200d👧"),
        ("\x1b[31mred\x1b[0m \ud800", "red \ufffd"),
        ("", ""),
        (" &nbsp; ", ""),
    ],
)
def test_cleans_as_the_official_code(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned
