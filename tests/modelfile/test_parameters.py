"""Parameters: types, ranges, and what is refused."""

from __future__ import annotations

import pytest

from wanrun.errors import InvalidRequest
from wanrun.modelfile.parameters import PARAMETERS, Value, format_parameter, parse_parameter


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("size", "832x480", (832, 480)),
        ("size", "16*4096", (16, 4096)),
        ("size", "832×480", (832, 480)),
        ("frames", "1025", 1025),
        ("fps", "+24", 24),
        ("steps", "0040", 40),
        ("shift", "5", 5.0),
        ("shift", "1e-3", 0.001),
        ("boundary", "0.875", 0.875),
        ("guidance", ".5", 0.5),
        ("guidance_low", "0", 0.0),
        ("seed", str(2**32 - 1), 2**32 - 1),
        ("sampler", "DPM++2M", "dpm++2m"),
        ("sampler", "DDIM:Eta=0.5", "ddim:eta=0.5"),
        ("schedule", "custom:1,0.9,0.4,0", "custom:1,0.9,0.4,0"),
        ("Precision", "BF16", "bf16"),
        ("decoder", "tiny", "tiny"),
        ("cache", "EasyCache:threshold=0.1", "easycache:threshold=0.1"),
        ("magcache", "1, 0.99,.98", "1,0.99,.98"),
        ("teacache", "-5784.5,2.4e3", "-5784.5,2.4e3"),
    ],
)
def test_values(name: str, text: str, value: Value) -> None:
    parsed = parse_parameter(name, text)
    assert (parsed, type(parsed)) == (value, type(value))
    assert parse_parameter(name, format_parameter(parsed)) == value


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("size", "15x480", "WIDTHxHEIGHT, each 16 to 4096 pixels"),
        ("size", "832x4097", "16 to 4096"),
        ("size", "832", "WIDTHxHEIGHT"),
        ("size", "-16x16", "WIDTHxHEIGHT"),
        ("frames", "0", "a whole number from 1 to 1025"),
        ("frames", "81.0", "a whole number"),
        ("fps", "241", "from 1 to 240"),
        ("steps", "1_0", "a whole number"),
        ("steps", "٤٠", "a whole number"),
        ("steps", "9" * 5000, "a whole number"),
        ("shift", "0", "a number above 0 to 100"),
        ("shift", "nan", "a number"),
        ("shift", "-inf", "a number"),
        ("guidance", "1e999", "a number from 0 to 50"),
        ("guidance", "50.01", "from 0 to 50"),
        ("boundary", "1.0001", "from 0 to 1"),
        ("guidance_rescale", "1.1", "from 0 to 1"),
        ("magcache", "1,nan", "numbers with commas"),
        ("magcache", "1,,1", "numbers with commas"),
        ("magcache", ",".join(["1"] * 129), "at most 128"),
        ("seed", str(2**32), f"from 0 to {2**32 - 1}"),
        ("seed", "-1", "from 0"),
        ("precision", "fp16", "one of fp32, bf16, int8, auto"),
        ("sampler", "../x", "a name"),
        ("sampler", "", "a name"),
        ("sampler", "ddim:eta=0.5,eta=0.6", "ddim is given eta twice"),
    ],
)
def test_refused(name: str, text: str, expected: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{name} must be ") as caught:
        parse_parameter(name, text)
    assert expected in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("name", "near"), [("step", "steps"), ("guidence_high", "guidance_high"), ("scheduler", "schedule")]
)
def test_unknown_names_the_nearest(name: str, near: str) -> None:
    with pytest.raises(InvalidRequest, match=f"did you mean '{near}'"):
        parse_parameter(name, "1")


def test_unknown_lists_all() -> None:
    with pytest.raises(InvalidRequest, match="there are: size, frames"):
        parse_parameter("q", "1")


def test_every_parameter_says_what_it_is() -> None:
    for name, parameter in PARAMETERS.items():
        assert parameter.name == name
        assert parameter.help
        assert parameter.kind in ("integer", "number", "size", "name", "plugin", "numbers")
