"""The models that come with wanrun: what their Modelfiles say, against what their makers published."""

from __future__ import annotations

import re
from typing import Any

import pytest

from wanrun import plugins
from wanrun.errors import ModelNotFound
from wanrun.modelfile import library
from wanrun.modelfile.spec import Spec, defaults
from wanrun.sources import hub
from wanrun.store.creation import describe_shipped
from wanrun.store.names import Name, parse_name

QUANTS = [
    *("q2_k", "q3_k_s", "q3_k_m", "q4_0", "q4_1", "q4_k_s", "q4_k_m"),
    *("q5_0", "q5_1", "q5_k_s", "q5_k_m", "q6_k", "q8_0"),
]


def without(*quants: str) -> list[str]:
    return ["latest", *(quant for quant in QUANTS if quant not in quants)]


#: Tags in the order in which they are listed: the files that others download from each repository.
TAGS = {
    "wan2.2-t2v-a14b": [*without(), "lightning", "lightning-250928"],
    "wan2.2-i2v-a14b": [*without("q4_0", "q4_1"), "lightning"],
    "wan2.2-ti2v-5b": without(),
    "wan2.1-t2v-1.3b": [*without("q2_k", "q4_1", "q5_1", "q5_k_s", "q6_k"), "f16"],
    "wan2.1-t2v-14b": [*without("q2_k", "q4_1", "q5_1"), "causvid", "lightx2v"],
}
#: Tags with adapters that need four steps, at the sigmas that their authors publish.
FEW_STEPS = ("lightning", "lightning-250928", "causvid", "lightx2v")
PUBLISHED = "custom:1,0.9375,0.8333333333333334,0.625,0"
#: Wan-Video/Wan2.2, wan/configs; Wan-Video/Wan2.1, README.md.
OFFICIAL = {
    "wan2.2-t2v-a14b": {
        "fps": 16,
        "frames": 81,
        "steps": 40,
        "shift": 12.0,
        "boundary": 0.875,
        "guidance_high": 4.0,
        "guidance_low": 3.0,
    },
    "wan2.2-i2v-a14b": {
        "fps": 16,
        "frames": 81,
        "steps": 40,
        "shift": 5.0,
        "boundary": 0.9,
        "guidance_high": 3.5,
        "guidance_low": 3.5,
    },
    "wan2.2-ti2v-5b": {"fps": 24, "frames": 121, "steps": 50, "shift": 5.0, "guidance": 5.0},
    "wan2.1-t2v-1.3b": {"fps": 16, "frames": 81, "steps": 50, "shift": 8.0, "guidance": 6.0},
    "wan2.1-t2v-14b": {"fps": 16, "frames": 81, "steps": 50, "shift": 5.0, "guidance": 5.0},
}
#: Ours, of wanrun.wan.detect: what a Modelfile without settings would become.
VARIANTS = {
    "wan2.2-t2v-a14b": ("wan2.2-t2v-a14b or wan2.1-t2v-14b", True),
    "wan2.2-i2v-a14b": ("wan2.2-i2v-a14b", True),
    "wan2.2-ti2v-5b": ("wan2.2-ti2v-5b", False),
    "wan2.1-t2v-1.3b": ("wan2.1-t2v-1.3b", False),
    "wan2.1-t2v-14b": ("wan2.2-t2v-a14b or wan2.1-t2v-14b", False),
}


def spec(name: str) -> Spec:
    return describe_shipped(parse_name(name))


@pytest.mark.parametrize("model", TAGS)
def test_tags(model: str) -> None:
    assert library.tags(model) == TAGS[model]
    assert library.suggestion(model).endswith(", ".join(TAGS[model]))


@pytest.mark.parametrize("model", TAGS)
def test_official_settings(model: str) -> None:
    for tag in (tag for tag in TAGS[model] if tag not in FEW_STEPS):
        parameters = spec(f"{model}:{tag}").parameters
        assert OFFICIAL[model].items() <= parameters.items()
        others = {name: value for name, value in parameters.items() if name not in ("magcache", "teacache")}
        assert others == defaults(*VARIANTS[model])


@pytest.mark.parametrize("model", TAGS)
def test_what_is_published_for_the_step_caches(model: str) -> None:
    """A ratio for each step after the first; where the experts change, a dip (Zehong-Ma/MagCache)."""
    parameters = spec(model).parameters
    ratios = [float(ratio) for ratio in str(parameters["magcache"]).split(",")]
    assert len(ratios) == int(str(parameters["steps"])) - 1
    dips = [
        index + 1 for index, ratio in enumerate(ratios[:-3]) if ratio < 0.93 and ratio < ratios[index + 1]
    ]
    assert dips == {"wan2.2-t2v-a14b": [26], "wan2.2-i2v-a14b": [15]}.get(model, [])
    assert ("teacache" in parameters) == model.startswith("wan2.1")
    assert len(str(parameters.get("teacache", "1,2,3,4,5")).split(",")) == 5


@pytest.mark.parametrize("model", TAGS)
def test_files(model: str) -> None:
    """A tag differs from the others in the quant of its diffusion files, and in nothing else."""
    latest = spec(model)
    for tag in TAGS[model]:
        found = spec(f"{model}:{tag}")
        assert found.components.keys() == latest.components.keys()
        for role, part in found.components.items():
            place = hub.parse(part.reference)
            assert place.path and not place.quant
            if role in ("text_encoder", "vae", "preview"):
                assert part == latest.components[role]
            elif tag in QUANTS or tag == "f16":
                assert re.search(rf"-{tag.upper()}\.gguf$", place.path)
                assert ("High" in place.path, "Low" in place.path) == (
                    role == "high_noise",
                    role == "low_noise",
                )
    assert (found.negative or "").startswith("色调艳丽，过曝，静态")
    assert (found.negative or "").endswith("背景人很多，倒着走")
    assert found.licenses == ("Apache-2.0",)


def test_decoders_fit() -> None:
    """Only TI2V-5B has the latents of the Wan2.2 VAE (Wan-Video/Wan2.2, wan/configs)."""
    for model in TAGS:
        vae, tiny = (spec(model).components[role].reference for role in ("vae", "preview"))
        new = model == "wan2.2-ti2v-5b"
        assert vae.endswith("wan2.2_vae.safetensors" if new else "wan_2.1_vae.safetensors")
        assert tiny.endswith("taew2_2.safetensors" if new else "taew2_1.safetensors")


@pytest.mark.parametrize(
    "name", ["wan2.2-t2v-a14b:lightning", "wan2.2-t2v-a14b:lightning-250928", "wan2.2-i2v-a14b:lightning"]
)
def test_lightning(name: str) -> None:
    """ModelTC/Wan2.2-Lightning, wan/configs: four Euler steps, shift 5, no guidance, one file per expert."""
    found = spec(name)
    assert [adapter.role for adapter in found.adapters] == ["high_noise", "low_noise"]
    for adapter in found.adapters:
        kind = name[7:10].upper()
        pattern = (
            rf"hf\.co/lightx2v/Wan2\.2-Lightning/Wan2\.2-{kind}-A14B-4steps-lora-.*/{adapter.role}_model\."
        )
        assert re.match(pattern, adapter.reference)
        assert adapter.scale == 1.0
    wanted: dict[str, Any] = {
        "steps": 4,
        "shift": 5.0,
        "guidance_high": 1.0,
        "guidance_low": 1.0,
        "sampler": "euler",
        "schedule": PUBLISHED,
    }
    assert wanted.items() <= found.parameters.items()
    assert found.parameters["boundary"] == OFFICIAL[name.partition(":")[0]]["boundary"]


def test_the_published_sigmas() -> None:
    """Wan2.2-Lightning wan/utils/fm_solvers_euler.py: evenly from 1 to 0, shifted by 5."""
    levels = [1 - index / 4 for index in range(5)]
    expected = [5 * level / (1 + 4 * level) for level in levels]
    assert plugins.bind("schedules", PUBLISHED)(4, 5.0) == pytest.approx(expected, abs=1e-15)
    assert [round(1000 * sigma, 1) for sigma in expected] == [1000, 937.5, 833.3, 625, 0]


@pytest.mark.parametrize("tag", ["causvid", "lightx2v"])
def test_few_steps_of_one_expert(tag: str) -> None:
    """LightX2V configs/distill: four steps, shift 5, no guidance."""
    found = spec(f"wan2.1-t2v-14b:{tag}")
    (adapter,) = found.adapters
    assert (adapter.role, adapter.scale) == ("", 1.0)
    assert re.match(r"hf\.co/Kijai/WanVideo_comfy/Wan21_.*T2V.*_lora_rank32", adapter.reference)
    wanted = {"steps": 4, "shift": 5.0, "guidance": 1.0, "sampler": "euler", "schedule": PUBLISHED}
    assert wanted.items() <= found.parameters.items()


def test_every_shipped_model_is_described() -> None:
    assert {name.model for name in library.names()} >= TAGS.keys()
    for name in library.names():
        assert describe_shipped(name).components


def test_what_is_not_shipped() -> None:
    for text, hint in {
        "wan2.2-t2v-a14b:Q9_K": "has the tags latest, q2_k",
        "wan2.2-i2v-14b": "did you mean 'wan2.2-i2v-a14b'",
        "zzz": "see 'wanrun list'",
        "me/wan2.1-t2v-1.3b": "see 'wanrun list'",
        "ghcr.io/me/wan": "'wanrun pull ghcr.io/me/wan:latest' may fetch it",
    }.items():
        with pytest.raises(ModelNotFound, match=re.escape(hint)):
            spec(text)
    assert library.tags("zzz") == []
    assert library.find(*Name("a", "b", "zzz", "latest").parts[2:]) is None
