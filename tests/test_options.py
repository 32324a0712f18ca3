"""A plugin's options: the grammar, what a source says it takes, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wanrun import options, plugins
from wanrun.errors import InvalidRequest, PluginError
from wanrun.modelfile.parameters import parse_parameter
from wanrun.options import Named, parse

_PLUGIN = '''
from __future__ import annotations
import does_not_exist
from typing import Annotated, Literal
from wanrun.types import Range

def sample(denoise, latents, sigmas, rng, on_step, *,
           eta: Annotated[float, Range(0, 1)] = 1.0,
           order: Annotated[int, Range(1, 3)] = 2,
           variant: Literal["bh1", "bh2"] = "bh2",
           final: bool = False,
           limit: float | None = None,
           label: str = "x"):
    """Steps somehow."""

def schedule(steps, shift, *, sigmas: tuple[Annotated[float, Range(0, 1)], ...]):
    """A list."""

def needs(*, word: str): ...

def odd(*, thing: dict[str, int] = {}): ...

again = sample
'''

_GOOD = """
from typing import Annotated
from wanrun.types import Range

def scale(value, *, factor: Annotated[float, Range(0, 10)] = 1.0, times: int = 1):
    return value * factor * times
"""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution whose one module cannot even be imported, and whose other can."""
    info = tmp_path / "optional-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: optional\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[wanrun.samplers]\nours = optional_one:sample\nagain = optional_one:again\nodd = optional_one:odd\n"
        "needs = optional_one:needs\nscale = optional_two:scale\ngone = optional_none:sample\n"
        "[wanrun.schedules]\nlist = optional_one:schedule\n"
    )
    (tmp_path / "optional_one.py").write_text(_PLUGIN)
    (tmp_path / "optional_two.py").write_text(_GOOD)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "optional_two", raising=False)


_WORD = st.from_regex(r"[a-z0-9][a-z0-9+._-]{0,9}", fullmatch=True)
_KEY = st.from_regex(r"[a-z][a-z0-9_]{0,9}", fullmatch=True)


@settings(max_examples=200, deadline=None)
@given(
    st.builds(
        Named,
        _WORD,
        st.lists(_WORD, max_size=5).map(tuple),
        st.dictionaries(_KEY, _WORD, max_size=5).map(lambda each: tuple(each.items())),
    )
)
def test_what_is_printed_reads_back(named: Named) -> None:
    assert parse(str(named)) == named
    assert parse(str(named).upper()) == named
    assert parse_parameter("sampler", str(named)) == str(named)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.text("ab:=,.+-_ é\n\0", max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        named = parse(text)
    except InvalidRequest as error:
        assert len(str(error)) < 300
    else:
        assert str(named) == text.lower()


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "ddim:",
        "ddim:,",
        "ddim:eta=",
        "ddim:=0.5",
        "ddim:eta=0.5,",
        "ddim:eta=0.5,eta=0.5",
        "ddim:eta=0.5,ETA=0.6",
        "ddim:eta==1",
        "ddim:eta=0.5=1",
        "ddim: eta=1",
        "ddim:eta=1 ",
        "ddim:eta=1\n",
        "ddim:a=1,0.5",
        "ddim:eta=½",
        "ddim:eta=１",
        "ſampler",
        "ddim:êta=1",
        "ddim:__class__=1",
        "../x:a=1",
        "a/b",
        "a:b:c",
        "a:b=/etc/passwd",
        "a:b=c:d",
        "a" * 65,
        "a:" + "b" * 33 + "=1",
        "a:b=" + "c" * 65,
        "a:" + ",".join(["1"] * 129),
        "a:" + "1," * 100_000,
        "\0",
    ],
    ids=lambda text: ascii(text[:20]),
)
def test_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse(text)
    if text.strip(" \t") == text:  # around a Modelfile's value blanks do not count
        with pytest.raises(InvalidRequest, match=r"(?s)^sampler must be .* not ") as caught:
            parse_parameter("sampler", text)
        assert len(str(caught.value)) < 400


def test_the_longest_list_is_read() -> None:
    text = "custom:" + ",".join(["0.1234"] * options.OPTIONS_LIMIT)
    assert len(parse(text).values) == options.OPTIONS_LIMIT


@pytest.mark.usefixtures("written")
def test_options_are_typed_without_an_import() -> None:
    given = plugins.options_of("samplers", "ours:eta=.5,order=3,variant=bh1,final=on,limit=2,label=y")
    assert given == {
        "eta": 0.5,
        "order": 3,
        "variant": "bh1",
        "final": True,
        "limit": 2.0,
        "label": "y",
    }
    assert plugins.options_of("samplers", "ours") == {}
    assert plugins.options_of("schedules", "list:1,.5,0") == {"sigmas": (1.0, 0.5, 0.0)}


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize(
    ("group", "text", "said"),
    [
        ("samplers", "ours:eta=1.01", "eta must be a number from 0 to 1, not 1.01"),
        ("samplers", "ours:eta=-0.1", "from 0 to 1"),
        ("samplers", "ours:eta=nan", "a number from 0 to 1, not nan"),
        ("samplers", "ours:limit=inf", "limit must be a number"),
        ("samplers", "ours:limit=1e999", "limit must be a number"),
        ("samplers", "ours:order=2.0", "order must be a whole number from 1 to 3"),
        ("samplers", "ours:order=4", "from 1 to 3, not 4"),
        ("samplers", "ours:variant=bh3", "variant must be bh1 or bh2, not bh3"),
        ("samplers", "ours:final=1", "final must be on or off"),
        ("samplers", "ours:etta=1", "does not take etta; it takes eta .*, else 1.0"),
        ("samplers", "ours:denoise=1", "does not take denoise"),
        ("samplers", "ours:0.5", "takes no list of values"),
        ("samplers", "needs", "needs word: write needs:word="),
        ("samplers", "again:eta=1", "again takes no options"),
        ("samplers", "gone:eta=1", "gone takes no options"),
        ("samplers", "nothing", "'nothing' is not known; there are .*again"),
        ("schedules", "list", "needs sigmas: write list:A,B"),
        ("schedules", "list:sigmas=1", "does not take sigmas; it takes no options"),
        ("schedules", "list:1,2", "sigmas must be a number from 0 to 1, not 2"),
        ("schedules", "list:1,bh2", "sigmas must be a number"),
    ],
)
def test_what_does_not_suit_is_refused(group: str, text: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        plugins.options_of(group, text)


@pytest.mark.usefixtures("written")
def test_an_option_that_no_text_can_give_is_its_authors_mistake() -> None:
    with pytest.raises(PluginError, match=r"'odd' takes thing, .*: dict\[str, int\]"):
        plugins.options_of("samplers", "odd")


@pytest.mark.usefixtures("written")
def test_options_are_bound() -> None:
    assert plugins.bind("samplers", "scale:factor=2.5,times=2")(2) == 10
    assert plugins.bind("samplers", "scale")(2) == 2


@pytest.mark.usefixtures("written")
def test_one_that_does_not_import_says_so_when_it_is_bound() -> None:
    with pytest.raises(PluginError, match="does_not_exist"):
        plugins.bind("samplers", "ours:eta=0.5")


def test_every_option_of_ours_can_be_read() -> None:
    for group in ("samplers", "schedules"):
        for name in plugins.names(group):
            found = plugins.signature(group, name)
            assert found is not None
            assert found.about
