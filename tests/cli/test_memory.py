"""Memory that runs out while a video is decoded, in real processes under a real limit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import av
import pytest
import torch
from safetensors.torch import save_file

from tests.bundles import MODELFILE, make_parts
from wanrun.wan.tiny import TinyConfig, TinyVAE

#: ``wanrun`` with a number of megabytes more than it has when it first doubles a decoded picture.
_LIMITED = """
import resource, sys
from pathlib import Path
from torch.nn.modules.module import register_module_forward_pre_hook
from wanrun.cli.main import main
from wanrun.wan.upsample import DoubledConv
megabytes = [int(sys.argv.pop(1))]

def limit(module, inputs):
    if isinstance(module, DoubledConv) and megabytes:
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + (megabytes.pop() << 20), resource.RLIM_INFINITY))

register_module_forward_pre_hook(limit)
main()
"""
_RUN = ["run", "tiny", "a ring", "--size", "512x512", "--frames", "5", "--steps", "1", "--guidance", "1"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Modelfile of a bundle that has a tiny decoder, too."""
    parts = make_parts(tmp_path_factory.mktemp("parts"))
    torch.manual_seed(0)
    save_file(TinyVAE(TinyConfig(16, 1)).state_dict(), str(parts.folder / "taew.safetensors"))
    parts.modelfile.write_text(MODELFILE + "PREVIEW ./taew.safetensors\n")
    return parts.modelfile


@pytest.mark.parametrize("decoder", ["vae", "vae+tiny"])
def test_the_video_arrives_and_sampling_is_not_repeated(
    decoder: str, model: Path, home: Path, tmp_path: Path
) -> None:
    # the limit is on addresses: the C library must neither reserve them for every thread nor keep freed ones
    exact = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": str(1 << 20), "OMP_NUM_THREADS": "1"}
    environment = os.environ | exact | {"WANRUN_HOME": str(home)}

    def start(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True,
            timeout=1200, check=False,
        )  # fmt: skip

    made = start("-m", "wanrun.cli", "create", "tiny", "-f", str(model))
    assert made.returncode == 0, made.stderr
    done = start("-c", _LIMITED, "320", *_RUN, "--decoder", decoder, "-o", "out.gif")
    assert done.returncode == 0, done.stderr
    assert "in tiles of" in done.stderr
    assert "going on with tiny" not in done.stderr  # allowed, but not needed
    assert done.stderr.count("denoising: 1/1") == 1
    with av.open(str(tmp_path / "out.gif")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 5
    assert not list((home / "runs").iterdir())
