"""The Modelfile language: what is read, what is refused and where, and that printing reads back the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wanrun.errors import InvalidRequest, ModelfileError, ModelNotFound
from wanrun.modelfile.document import AdapterLine, ComponentLine, Modelfile
from wanrun.modelfile.grammar import dump, parse, read
from wanrun.modelfile.lexing import MAX_BYTES
from wanrun.modelfile.parameters import Value

WHOLE = '''# Wan2.2 T2V A14B, Q4_K_M
FROM wan2.2-t2v-a14b

  diffusion high_noise hf.co/QuantStack/Wan2.2-T2V-A14B-GGUF/HighNoise/high.gguf
\tDIFFUSION LOW_NOISE  ./low noise.gguf
TEXT_ENCODER umt5.gguf
VAE https://example.org/vae.safetensors#sha256=00
PREVIEW "tae # 1.safetensors"
EXPANDER qwen.gguf
ADAPTER high_noise ./lightning high.safetensors 0.75
ADAPTER "style 2.safetensors"
PARAMETER steps 40
PARAMETER guidance_high 4.0
PARAMETER SIZE 832*480
PARAMETER sampler dpm++2m
TEMPLATE """{{ prompt }}, "cinematic" lighting
of the 1950s"""
NEGATIVE "say \\"blurred\\", C:\\\\ and \\d"
SYSTEM   bare text, # and 'quotes' stay  \t
LICENSE Apache-2.0
LICENSE """MIT"""
REQUIRES v0.1.0
quantize q4_k_m
'''


def problems(source: str | bytes) -> list[tuple[int, int, str]]:
    with pytest.raises(ModelfileError) as caught:
        parse(source)
    return caught.value.problems


def test_whole_grammar() -> None:
    assert parse(WHOLE) == Modelfile(
        from_="wan2.2-t2v-a14b",
        components=(
            ComponentLine("high_noise", "hf.co/QuantStack/Wan2.2-T2V-A14B-GGUF/HighNoise/high.gguf"),
            ComponentLine("low_noise", "./low noise.gguf"),
            ComponentLine("text_encoder", "umt5.gguf"),
            ComponentLine("vae", "https://example.org/vae.safetensors#sha256=00"),
            ComponentLine("preview", "tae # 1.safetensors"),
            ComponentLine("expander", "qwen.gguf"),
        ),
        adapters=(
            AdapterLine("./lightning high.safetensors", "high_noise", 0.75),
            AdapterLine("style 2.safetensors", None, 1.0),
        ),
        parameters={"steps": 40, "guidance_high": 4.0, "size": (832, 480), "sampler": "dpm++2m"},
        template='{{ prompt }}, "cinematic" lighting\nof the 1950s',
        negative='say "blurred", C:\\ and \\d',
        system="bare text, # and 'quotes' stay",
        licenses=("Apache-2.0", "MIT"),
        requires="v0.1.0",
        quantize="Q4_K_M",
    )


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ('""""', None),
        ('""', ""),
        ('""""""', ""),
        ('"""a""""', 'a"'),
        ('""""a"""', '"a'),
        ('"""""""""', '"""'),
        ('"""a\n# no comment\nVAE x"""', "a\n# no comment\nVAE x"),
        ('"two\r\nlines"', "two\r\nlines"),
        ("a\u00a0\u200d\u200b\ufeffb", "a\u00a0\u200d\u200b\ufeffb"),
        ("👩\u200d👩\u200d👧 family", "👩\u200d👩\u200d👧 family"),
        ("a\x0bb\x85c\u2028d", "a\x0bb\x85c\u2028d"),
        (r'"\\server\share"', r"\server\share"),
        (r"\\server\share", r"\\server\share"),
    ],
)
def test_values(written: str, value: str | None) -> None:
    source = f"FROM x\nSYSTEM {written}\nNEGATIVE after"
    if value is None:
        assert problems(source) == [(2, 8, 'no closing """')]
    else:
        parsed = parse(source)
        assert (parsed.system, parsed.negative) == (value, "after")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_encodings(encoding: str) -> None:
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    data = mark + 'FROM x\r\nSYSTEM "Käse 猫"\rNEGATIVE b\n'.encode(encoding)
    assert parse(data) == Modelfile(from_="x", system="Käse 猫", negative="b")


def test_every_mistake_at_once() -> None:
    source = '''DIFFUSION a.gguf
VAR x.safetensors
  PARAMETER stepps 4
PARAMETER steps nan
PARAMETER guidance inf
PARAMETER size 8x8
VAE
VAE b.safetensors
MESSAGE user """never
VAE mind"""
TEXT_ENCODER c.gguf # mine
SYSTEM "a" b
REQUIRES soon
ADAPTER x.safetensors nan
NEGATIVE "never closed
'''
    found = problems(source)
    assert [(line, column) for line, column, _ in found] == [
        (2, 1),
        (3, 13),
        (4, 11),
        (5, 11),
        (6, 11),
        (7, 4),
        (8, 1),
        (9, 1),
        (11, 14),
        (12, 12),
        (13, 10),
        (14, 9),
        (15, 10),
    ]
    messages = [message for _, _, message in found]
    assert "did you mean VAE?" in messages[0]
    assert "did you mean 'steps'?" in messages[1]
    assert "whole number from 1 to 1000" in messages[2]
    assert "16 to 4096" in messages[4]
    assert "VAE is given twice, first on line 7" in messages[6]
    assert "MESSAGE is for chat models" in messages[7]
    assert "comment stands on its own line" in messages[8]


@pytest.mark.parametrize(
    ("source", "place", "message"),
    [
        ("", (1, 1), "no FROM and no DIFFUSION"),
        ("# only\n", (1, 1), "no FROM and no DIFFUSION"),
        ("VAE a\nDIFFUSION high_noise b", (2, 1), "needs both"),
        ("DIFFUSION a\nDIFFUSION low_noise b", (1, 1), "with and without an expert"),
        ("FROM a\nFROM b", (2, 1), "FROM is given twice, first on line 1"),
        ("FROM a\nPARAMETER steps 1\nparameter STEPS 2", (3, 1), "PARAMETER steps is given twice"),
        ("FROM a\0b", (1, 7), "NUL"),
        (b"FROM a\nSYSTEM \xff", (2, 8), "not UTF-8"),
        ("FROM a\nSYSTEM \ud800", (2, 8), "surrogate"),
        ("FROM: a", (1, 1), "unknown instruction 'FROM:'"),
        ("DIFFUSION high_noise\nFROM a", (1, 21), "a value is missing"),
        ('FROM "a\nb"', (1, 6), "one line"),
        ('FROM ""', (1, 6), "one line"),
        ("FROM a\rFROM b", (2, 1), "given twice"),
        ("FROM a\r\n\r\nNEG b", (3, 1), "unknown instruction"),
        ("FROM a\nQUANTIZE q4_k_xxl", (2, 10), "'q4_k_xxl' is no type that can be made"),
        ("FROM a\nADAPTER b 1e9", (2, 9), "from -100 to 100"),
        (b"#" * (MAX_BYTES + 1), (1, 1), "larger than 1 MiB"),
    ],
)
def test_mistakes(source: str | bytes, place: tuple[int, int], message: str) -> None:
    (line, column, text), *rest = problems(source)
    assert ((line, column), rest) == (place, [])
    assert message in text


def test_not_read_to_the_end_of_nonsense() -> None:
    assert 100 <= len(problems("nonsense\n" * 100_000)) <= 101


def test_size_limit_is_the_last_byte() -> None:
    text = "FROM a\nSYSTEM "
    parse(text + "b" * (MAX_BYTES - len(text)))
    assert "larger" in problems(text + "b" * (MAX_BYTES - len(text) + 1))[0][2]


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="no Modelfile"):
        read(tmp_path / "Modelfile")
    with pytest.raises(ModelNotFound, match="no Modelfile"):
        read(tmp_path)


@pytest.mark.parametrize(
    "modelfile",
    [
        Modelfile(from_="a\nb"),
        Modelfile(from_=""),
        Modelfile(from_="a", system="\0"),
        Modelfile(from_="a", parameters={"stepps": 4}),
        Modelfile(from_="a", parameters={"steps": 4000}),
        Modelfile(from_="a", adapters=(AdapterLine("b", None, float("nan")),)),
        Modelfile(from_="a", components=(ComponentLine("vae", "b"), ComponentLine("vae", "c"))),
        Modelfile(components=(ComponentLine("vea", "b"),)),
    ],
)
def test_what_cannot_be_written_is_refused(modelfile: Modelfile) -> None:
    with pytest.raises(InvalidRequest, match="cannot be written"):
        dump(modelfile)


_AWKWARD = st.sampled_from(
    ['"', '"""', "\\", '\\"', "\n", "\r\n", " ", "\t", "#", " #", "👩\u200d👧", "\u00a0", "a"]
)
_TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40),
    st.lists(_AWKWARD, max_size=8).map("".join),
)
_LINE = st.one_of(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40),
    st.lists(
        st.sampled_from(['"', "\\", " ", "#", "high_noise", "a", "1.0", "é"]), min_size=1, max_size=6
    ).map("".join),
).filter(lambda text: bool(text.strip()))
_SINGLE = ("text_encoder", "vae", "preview", "expander")
_SCALE = st.floats(-100, 100)


@st.composite
def modelfiles(draw: st.DrawFn) -> Modelfile:
    from_ = draw(st.none() | _LINE)
    experts = draw(st.sampled_from([("diffusion",), ("high_noise", "low_noise")] + ([()] if from_ else [])))
    roles = draw(st.permutations([*experts, *draw(st.lists(st.sampled_from(_SINGLE), unique=True))]))
    number = st.floats(0, 50)
    name = st.from_regex(r"[a-z0-9][a-z0-9+._-]{0,20}", fullmatch=True)
    parameters: st.SearchStrategy[dict[str, Value]] = st.fixed_dictionaries(
        {},
        optional={
            "size": st.tuples(st.integers(16, 4096), st.integers(16, 4096)),
            "frames": st.integers(1, 1025),
            "fps": st.integers(1, 240),
            "steps": st.integers(1, 1000),
            "shift": st.floats(0, 100, exclude_min=True),
            "boundary": st.floats(0, 1),
            "sampler": name | name.map("{}:eta=0.5,order=3".format),
            "schedule": name | name.map("{}:1,0.9,0.4,0".format),
            "guidance": number,
            "guidance_high": number,
            "guidance_low": number,
            "seed": st.integers(0, 2**32 - 1),
            "precision": st.sampled_from(["fp32", "bf16", "int8", "auto"]),
            "decoder": name,
        },
    )
    adapter = st.builds(AdapterLine, _LINE, st.sampled_from([None, "high_noise", "low_noise"]), _SCALE)
    return Modelfile(
        from_,
        tuple(ComponentLine(role, draw(_LINE)) for role in roles),
        tuple(draw(st.lists(adapter, max_size=3))),
        draw(parameters),
        draw(st.none() | _TEXT),
        draw(st.none() | _TEXT),
        draw(st.none() | _TEXT),
        tuple(draw(st.lists(_TEXT, max_size=3))),
        draw(st.none() | st.sampled_from(["0.1.0", "v1.2.3-rc.1+build"])),
        draw(st.none() | st.sampled_from(["Q4_K_M", "Q8_0"])),
    )


@settings(max_examples=100, deadline=None)
@given(modelfiles())
def test_printing_reads_back_the_same(modelfile: Modelfile) -> None:
    text = dump(modelfile)
    assert parse(text) == modelfile
    assert parse(text.encode()) == modelfile
    assert dump(parse(text)) == text


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_any_bare_line_reads_as_it_stands(text: str) -> None:
    line = text.translate({ord(c): None for c in "\r\n\0"}).strip(" \t")
    if line and not line.startswith('"') and not any(0xD800 <= ord(c) < 0xE000 for c in line):
        assert parse(f"FROM a\nSYSTEM   {line} \t\n").system == line
