"""A store through kills at random moments and on a full disk."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.modelfile.files import MODELFILE, save, transformer
from tests.sources.servers import noise, serving
from tests.store import crash, invariants
from wanrun.errors import StoreError
from wanrun.modelfile.grammar import parse
from wanrun.store import garbage
from wanrun.store.creation import create
from wanrun.store.store import Store

ROOT = Path(__file__).parents[2]
SIZE = 16 << 20


def test_kills_at_random_moments() -> None:
    """A few of what ``python -m tests.store.crash --count 300`` does."""
    command = [sys.executable, "-m", "tests.store.crash", "--count", "8", "--seed", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("8 killed")


def test_the_harness_notices(store: Store, parts: Path) -> None:
    create(store, "wan", parse(MODELFILE), parts)
    crash.promises(store)
    path = store.get("wan").components["vae"].path
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(AssertionError):
        crash.promises(store)
    pid = crash.fork(lambda: crash.promises(store))
    assert os.waitpid(pid, 0)[1] != 0


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A folder on a disk of 16 MiB; where none can be mounted, a limit on the size of files stands in."""
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    if os.getuid() == 0 and subprocess.run(["mount", *options], capture_output=True).returncode == 0:
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE // 4, hard))
    try:
        yield folder
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk(tmp_path: Path, parts: Path) -> None:
    save(parts / "vast.safetensors", transformer() | {"blocks.0.more": (10 << 20,)})
    big = MODELFILE.replace("wan-high_noise.safetensors", "vast.safetensors")
    data = (parts / "vast.safetensors").read_bytes()
    with small_disk(tmp_path / "disk") as disk, serving({"/vast.safetensors": data + noise(9)}) as site:
        store = Store(disk / "home")
        create(store, "wan", parse(MODELFILE), parts)
        before = store.get("wan")
        remote = big.replace("vast.safetensors", f"{site.url}/vast.safetensors")
        for text in (big, remote):
            with pytest.raises(StoreError, match=r"free some space|File too large"):
                create(store, "vast", parse(text), parts)
            crash.promises(store)
            assert store.get("wan") == before
        garbage.collect(store.home, everything=True)
        assert invariants.leftovers(store) == []
        create(store, "vast", parse(MODELFILE.replace("steps 12", "steps 9")), parts)
        crash.promises(store)
