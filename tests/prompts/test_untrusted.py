"""Text that a model wrote, made safe."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from wanrun.prompts.untrusted import plain


def test_what_steers_is_dropped_and_what_is_read_stays() -> None:
    assert (
        plain("a\x1b[31m red\x00 \u202eball\u202c\ufeff\u2066!\n\tend \ud800\ue000", 100)
        == "a[31m red ball! end"
    )
    assert plain("红色的球 👩‍👩‍👧 café", 100) == "红色的球 👩‍👩‍👧 café"
    assert plain("a\u2028b\u00a0c\u3000d", 100) == "a b c d"


def test_what_is_long_is_cut_between_words() -> None:
    assert plain("one two three", 9) == "one two"
    assert plain("x" * 50, 9) == "x" * 9


@given(st.text(), st.integers(1, 50))
def test_nothing_invisible_is_left(text: str, limit: int) -> None:
    found = plain(text, limit)
    assert len(found) <= limit
    assert all(unicodedata.category(each)[0] != "C" or each in "\u200c\u200d" for each in found)
    assert "\n" not in found
