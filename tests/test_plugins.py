"""A third party's distribution, found by its entry points, used, broken and switched off."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from wanrun import plugins
from wanrun.errors import PluginError

_SAMPLER = """
def sample(denoise, latents, sigmas, rng, on_step):
    return latents + 1
"""


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution with a sampler that works, one that does not import, and one of our names."""
    site = tmp_path / "site"
    info = site / "other-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[wanrun.samplers]\nmine = other_sampler:sample\n"
        "broken = other_missing:sample\neuler = other_sampler:sample\n"
    )
    (site / "other_sampler.py").write_text(_SAMPLER)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "other_sampler", raising=False)


def test_ours_are_all_there_and_load() -> None:
    ours = [plugin for plugin in plugins.every() if plugin.distribution == "wanrun"]
    assert {plugin.name for plugin in ours if plugin.group == "samplers"} >= {"unipc", "dpm++2m", "euler"}
    assert {plugin.name for plugin in ours if plugin.group == "decoders"} == {"vae", "tiny"}
    assert [plugin.problem for plugin in ours if plugin.problem] == []


@pytest.mark.usefixtures("third_party")
def test_a_third_partys_sampler_is_used() -> None:
    sample = plugins.load("samplers", "mine")
    assert sample(None, torch.zeros(1), None, None, None) == 1


@pytest.mark.usefixtures("third_party")
def test_a_broken_one_is_listed_with_its_reason_and_breaks_nothing_else() -> None:
    found = {plugin.name: plugin for plugin in plugins.every() if plugin.group == "samplers"}
    assert "other_missing" in str(found["broken"].problem)
    assert found["mine"].problem is None
    with pytest.raises(PluginError, match="other_missing"):
        plugins.load("samplers", "broken")


@pytest.mark.usefixtures("third_party")
def test_ours_cannot_be_replaced() -> None:
    assert plugins.load("samplers", "euler").__module__ == "wanrun.sampling.euler"


@pytest.mark.usefixtures("third_party")
def test_third_parties_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANRUN_PLUGINS", "")
    assert "mine" not in plugins.names("samplers")
    assert "euler" in plugins.names("samplers")
    monkeypatch.setenv("WANRUN_PLUGINS", "other")
    assert "mine" in plugins.names("samplers")


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(PluginError, match="did you mean 'euler'"):
        plugins.load("samplers", "eular")
