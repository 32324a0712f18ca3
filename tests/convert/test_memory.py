"""Converting takes the memory of some rows, however large the checkpoint is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

from tests.convert.published import as_diffusers, save_sharded
from wanrun.wan.config import WanConfig
from wanrun.wan.model import WanModel

LARGE = WanConfig(width=768, ffn_width=3072, layers=4, in_channels=16, out_channels=16, text_width=1024)
#: Anonymous memory that converting and quantising add to a process that has done both before on a small file.
CHILD = """
import sys, threading, time
from pathlib import Path
from wanrun.convert.network import Wanted, convert
from wanrun.wan.requantize import quantize_transformer

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))

def both(source, folder):
    convert(source, folder / "out.gguf", lambda *said: None, Wanted("BF16"))
    quantize_transformer(source, folder / "small.gguf", "Q8_0", lambda *said: None)

small, large, folder = map(Path, sys.argv[1:])
both(small, folder)
before = peak = anonymous()
done = threading.Event()
def watch():
    global peak
    while not done.wait(0.002):
        peak = max(peak, anonymous())
watcher = threading.Thread(target=watch)
watcher.start()
both(large, folder)
done.set()
watcher.join()
print(peak - before)
"""


def test_memory_does_not_grow_with_the_checkpoint(tmp_path: Path) -> None:
    for name, layers in (("small", 1), ("large", LARGE.layers)):
        config = WanConfig(LARGE.width, LARGE.ffn_width, layers, 16, 16, LARGE.text_width)
        with torch.device("meta"):
            shapes = {key: value.shape for key, value in WanModel(config).state_dict().items()}
        save_sharded(as_diffusers({key: torch.ones(shape) for key, shape in shapes.items()}), tmp_path / name)
    size = sum(path.stat().st_size for path in (tmp_path / "large").iterdir())
    folders = [str(tmp_path / name) for name in ("small", "large", "")]
    done = subprocess.run([sys.executable, "-c", CHILD, *folders], capture_output=True, text=True, check=True)
    assert size > 150_000_000
    assert int(done.stdout) < 30_000_000
