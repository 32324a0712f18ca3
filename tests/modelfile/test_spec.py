"""What a Modelfile means with its parents: inheritance, references, defaults, versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from wanrun.errors import InvalidRequest, ModelNotFound
from wanrun.modelfile.grammar import parse
from wanrun.modelfile.spec import Part, Spec, check_requires, complete, defaults, flatten

BASE = Spec(
    {role: Part(role, f"/store/{role}", role) for role in ("high_noise", "low_noise", "text_encoder", "vae")},
    parameters={"steps": 40, "boundary": 0.875, "guidance_high": 4.0},
    template="base {{ prompt }}",
    negative="base",
    licenses=("Apache-2.0",),
    requires="0.1.0",
    quantize="Q8_0",
)


def parent(name: str) -> Spec:
    if name != "base":
        raise ModelNotFound(f"model '{name}' not found")
    return BASE


def flat(text: str, folder: Path = Path("/files")) -> Spec:
    return flatten(parse(text), folder, parent)


def test_everything_is_inherited() -> None:
    assert flat("FROM base") == BASE


def test_what_is_said_overrides(tmp_path: Path) -> None:
    spec = flat(
        'FROM base\nVAE ./other.safetensors\nPARAMETER steps 4\nNEGATIVE ""\nLICENSE MIT\nREQUIRES 0.2.0',
        tmp_path,
    )
    assert spec.components == {
        **BASE.components,
        "vae": Part("vae", str(tmp_path / "other.safetensors"), "other.safetensors"),
    }
    assert spec.parameters == {**BASE.parameters, "steps": 4}
    assert (spec.template, spec.negative) == (BASE.template, "")
    assert (spec.licenses, spec.requires) == (("MIT",), "0.2.0")
    assert flat("FROM base\nQUANTIZE q4_0").quantize == "Q4_0"


def test_a_dense_model_replaces_experts_and_their_settings() -> None:
    spec = flat("FROM base\nDIFFUSION /dense.gguf")
    assert set(spec.components) == {"diffusion", "text_encoder", "vae"}
    assert spec.parameters == {"steps": 40}
    assert spec.quantize is None  # that was said of the other experts


def test_one_expert_replaces_one() -> None:
    spec = flat("FROM base\nDIFFUSION low_noise /low.gguf")
    assert spec.components["low_noise"].reference == "/low.gguf"
    assert spec.components["high_noise"] == BASE.components["high_noise"]


def test_from_a_file_is_a_dense_model(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"")
    expected = {"diffusion": Part("diffusion", str(tmp_path / "model"), "model")}
    assert flat("FROM ./model", tmp_path).components == expected
    assert flat("FROM model", tmp_path).components == expected
    assert flat("FROM model.gguf", tmp_path).components["diffusion"].origin == "model.gguf"


def test_a_component_of_a_bundle() -> None:
    assert flat("DIFFUSION /a.gguf\nVAE base").components["vae"] == BASE.components["vae"]


def test_every_wrong_reference_at_once() -> None:
    with pytest.raises(InvalidRequest) as caught:
        flat("FROM none\nVAE nothing\nPREVIEW base\nTEXT_ENCODER ~nobody-of-this-name/umt5.gguf")
    assert str(caught.value).splitlines() == [
        "model 'none' not found",
        "vae: model 'nothing' not found",
        "preview: model 'base' has no preview component",
        "text_encoder: ~nobody-of-this-name/umt5.gguf: no such user; write the path out",
    ]
    with pytest.raises(InvalidRequest, match="FROM gives a dense model"):
        flat("FROM ./a.gguf\nDIFFUSION high_noise b.gguf")


def test_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert flat("FROM ~/a.gguf").components["diffusion"].reference == str(tmp_path / "a.gguf")


@pytest.mark.parametrize(
    ("variant", "experts", "expected"),
    [
        (
            "wan2.2-t2v-a14b or wan2.1-t2v-14b",
            True,
            {"steps": 40, "shift": 12.0, "guidance_high": 4.0, "boundary": 0.875},
        ),
        ("wan2.2-t2v-a14b or wan2.1-t2v-14b", False, {"steps": 50, "shift": 5.0, "guidance": 5.0}),
        ("wan2.2-i2v-a14b", True, {"guidance_low": 3.5, "boundary": 0.9, "fps": 16}),
        ("wan2.2-ti2v-5b", False, {"size": (1280, 704), "frames": 121, "fps": 24}),
        ("wan (custom)", True, {"boundary": 0.875}),
    ],
)
def test_defaults(variant: str, experts: bool, expected: dict[str, object]) -> None:
    given = defaults(variant, experts)
    assert expected.items() <= given.items()
    assert ("guidance" in given) != experts


def test_one_guidance_stays_the_only_one() -> None:
    filled = complete({"guidance": 6.0, "steps": 4}, "wan2.2-t2v-a14b or wan2.1-t2v-14b", True)
    assert {name: value for name, value in filled.items() if "guidance" in name} == {"guidance": 6.0}
    assert (filled["steps"], filled["boundary"]) == (4, 0.875)


@pytest.mark.parametrize(
    ("requires", "version", "fine"),
    [
        ("0.1.0", "0.1.0", True),
        ("v0.1.0", "0.10.0", True),
        ("0.10.0", "0.9.9", False),
        ("1.0.0", "0.1.0", False),
    ],
)
def test_requires(requires: str, version: str, fine: bool) -> None:
    if fine:
        check_requires(Spec(requires=requires), version)
    else:
        with pytest.raises(InvalidRequest, match=f"requires wanrun {requires}"):
            check_requires(Spec(requires=requires), version)
