"""A store survives a failure or the end of the process at every system call that changes it."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.modelfile.files import MODELFILE, save, transformer
from tests.store import invariants
from tests.store.faults import Faults, Killed, Witness
from wanrun.errors import StoreError
from wanrun.modelfile.grammar import parse
from wanrun.store import garbage
from wanrun.store.creation import create
from wanrun.store.durable import write_file
from wanrun.store.store import Store

ROOT = Path(__file__).parents[2]
NEW = MODELFILE.replace("./wan-low_noise.safetensors", "new.safetensors").replace("steps 12", "steps 13")


def state(store: Store) -> dict[str, str]:
    return {str(entry.name): str(entry.digest) for entry in store.list()}


def prepare(store: Store, parts: Path) -> None:
    for name in ("wan", "other"):
        create(store, name, parse(MODELFILE), parts)


OPERATIONS: dict[str, Callable[[Store, Path], object]] = {
    "create": lambda store, parts: create(store, "me/fresh", parse(NEW), parts),
    "replace": lambda store, parts: create(store, "wan", parse(NEW), parts),
    "copy": lambda store, parts: store.copy("wan", "me/copy"),
    "remove": lambda store, parts: store.remove("wan") if "wan:latest" in state(store) else None,
}


@pytest.mark.parametrize(
    ("operation", "dies"),
    [("create", True), ("replace", False), ("copy", True), ("remove", True), ("remove", False)],
)
def test_every_call_may_be_the_last(store: Store, parts: Path, operation: str, dies: bool) -> None:
    save(parts / "new.safetensors", transformer(), 3.0)
    act = OPERATIONS[operation]
    prepare(store, parts)
    before = state(store)
    count = 0
    while True:
        count += 1
        fresh = Store(store.home.with_name(str(count)))
        shutil.copytree(store.home, fresh.home)
        faults = Faults(die_at=count) if dies else Faults(fail_at=count)
        try:
            with faults.active():
                act(fresh, parts)
        except (Killed, StoreError):
            pass
        left = state(fresh)
        invariants.hold(fresh)
        act(fresh, parts)
        after = state(fresh)
        assert before != after
        assert left in (before, after)
        invariants.hold(fresh)
        garbage.sweep(fresh.home)
        assert invariants.leftovers(fresh) == []
        if faults.count < count:
            break
    assert count > {"create": 25, "replace": 20, "copy": 9, "remove": 4}[operation]


def test_nothing_gets_a_name_before_it_is_on_the_disk(store: Store, parts: Path) -> None:
    witness = Witness()
    with witness.active():
        prepare(store, parts)
        store.copy("wan", "me/copy")
    assert witness.problems == []
    assert witness.renamed >= 8
    assert witness.folders == set()


def test_the_witness_notices(tmp_path: Path) -> None:
    witness = Witness()
    with witness.active(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("wanrun.store.durable.os.fsync", lambda descriptor: None)
        write_file(tmp_path / "manifests" / "a", b"x")
    assert any("before it was synced" in problem for problem in witness.problems)
    assert witness.folders


LOOP = """
import sys
from pathlib import Path
from wanrun.modelfile.grammar import read
from wanrun.store.creation import create
from wanrun.store.store import Store
store, parts = Store(Path(sys.argv[1])), Path(sys.argv[2])
files = [read(parts / "Modelfile"), read(parts / "New")]
create(store, "wan", files[0], parts)
print("ready", flush=True)
for turn in range(10_000):
    create(store, "wan", files[turn % 2], parts)
    store.copy("wan", "me/copy")
    store.remove("me/copy")
"""


def test_a_killed_process(store: Store, parts: Path) -> None:
    save(parts / "new.safetensors", transformer(), 3.0)
    (parts / "New").write_text(NEW, encoding="utf-8")
    rng = random.Random(5)
    for _ in range(4):
        command = [sys.executable, "-c", LOOP, str(store.home), str(parts)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            time.sleep(rng.uniform(0.01, 0.1))
            process.send_signal(signal.SIGKILL)
        invariants.hold(store)
        assert "wan:latest" in state(store)
    store.remove("wan")
    if "me/copy:latest" in state(store):
        store.remove("me/copy")
    assert list(store.blobs.iterdir()) == []
