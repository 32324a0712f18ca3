"""Kills processes that create, pull, push, remove and prune together, and checks the store after each round.

python -m tests.store.crash --count 300
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from tests.modelfile.files import ADAPTERS, MODELFILE, lora, save, save_parts, transformer
from tests.sources.oci.servers import registry
from tests.sources.servers import serving
from tests.store import invariants
from wanrun.errors import ModelNotFound, WanrunError
from wanrun.modelfile import library
from wanrun.modelfile.grammar import parse
from wanrun.sources.oci.pushing import push
from wanrun.store import garbage, manifests
from wanrun.store.creation import create, quiet
from wanrun.store.digest import Digest
from wanrun.store.names import parse_name
from wanrun.store.pulling import pull
from wanrun.store.store import Store
from wanrun.store.verify import verify

_MEMORY = Path("/dev/shm")
OLD = MODELFILE + ADAPTERS
NEW = OLD.replace("./wan-low_noise.safetensors", "new.safetensors").replace("steps 12", "steps 13")


def creator(store: Store, parts: Path, turn: int) -> None:
    create(store, "wan", parse((OLD, NEW)[turn % 2]), parts)


def puller(store: Store, parts: Path, turn: int) -> None:
    pull(store, "wan-x", quiet)
    store.remove("wan-x")


def tidier(store: Store, parts: Path, turn: int) -> None:
    with suppress(ModelNotFound):
        store.copy("wan", "me/copy")
        store.remove(("wan", "me/copy")[turn % 2])
    garbage.collect(store.home, everything=turn % 8 == 0)


def pusher(host: str, store: Store, parts: Path, turn: int) -> None:
    name = parse_name(f"{host}/me/wan:{turn % 4}")
    store.copy("wan", name)
    push(store, name, quiet)
    store.remove(name)


Worker = Callable[[Store, Path, int], None]


def workers(host: str) -> tuple[Worker, ...]:
    """What runs together; ``host`` is a registry."""
    return creator, puller, tidier, partial(pusher, host)


def expected(error: WanrunError) -> bool:
    """What one process may meet because of another; damage is nothing that it may meet."""
    return isinstance(error, ModelNotFound) or "another wanrun is at work" in str(error)


def fork(action: Callable[[], None]) -> int:
    """Runs ``action`` in a child, which exits with 1 and a traceback when it fails; returns its pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        action()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def loop(worker: Worker, store: Store, parts: Path) -> None:
    for turn in range(100_000):
        try:
            worker(store, parts, turn)
        except WanrunError as error:
            if not expected(error):
                raise


def round_of_kills(store: Store, parts: Path, host: str, rng: random.Random, within_s: float) -> int:
    """Runs all workers together, kills each at a random moment; returns how many were killed."""
    pids = [fork(partial(loop, worker, store, parts)) for worker in workers(host)]
    started = time.monotonic()
    for moment, pid in sorted((rng.uniform(0, within_s), pid) for pid in pids):
        time.sleep(max(0.0, started + moment - time.monotonic()))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSIGNALED(status):
            raise AssertionError("a worker failed before it was killed")
    return len(pids)


def promises(store: Store) -> None:
    """Everything that is listed is whole and right to the last byte."""
    invariants.hold(store)
    report = verify(store, manifests.names(store.manifests), quiet)
    assert report.findings == (), report.findings


def finish(store: Store, parts: Path, host: str) -> None:
    """Repeating what was interrupted finishes it and leaves nothing behind."""
    create(store, "wan", parse(OLD), parts)
    pull(store, "wan-x", quiet)
    for turn in range(4):
        pusher(host, store, parts, turn)
    promises(store)
    assert {"wan:latest", "wan-x:latest"} <= {str(entry.name) for entry in store.list()}
    garbage.collect(store.home, everything=True)
    assert invariants.leftovers(store) == []
    store.remove("wan-x")


def finished(store: Store, parts: Path, host: str) -> float:
    """Does that in a process of its own; returns the seconds that it took."""
    started = time.monotonic()
    _, status = os.waitpid(fork(lambda: finish(store, parts, host)), 0)
    assert status == 0, "what was interrupted cannot be finished"
    return time.monotonic() - started


def serve(parts: Path, sender: int) -> None:
    """Serves the files of ``parts`` until it is killed."""
    with serving({f"/{path.name}": path.read_bytes() for path in parts.iterdir()}) as site:
        os.write(sender, site.url.encode())
        signal.pause()


def ship(folder: Path, parts: Path, url: str) -> None:
    """A library with the model wan-x, whose files are on the server, with and without digests."""
    lines = []
    for line in MODELFILE.splitlines():
        words = line.split()
        file = parts / words[-1] if len(words) > 1 else parts
        if file.is_file():
            digest = f"#sha256={Digest.of(file.read_bytes()).hex}" if "low" not in file.name else ""
            line = f"{' '.join(words[:-1])} {url}/{file.name}{digest}"
        lines.append(line)
    target = folder / "modelfiles" / "wan-x" / "Modelfile"
    target.parent.mkdir(parents=True)
    target.write_text("\n".join(lines), encoding="utf-8")
    library.__file__ = str(folder / "wanrun" / "modelfile" / "library.py")


def run(count: int, seed: int) -> int:
    """Kills until ``count`` processes have died; returns how many did. Raises AssertionError."""
    rng, killed = random.Random(seed), 0
    place = tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None)
    with place as folder, registry(Path(folder) / "registry") as shared:
        parts, store = save_parts(Path(folder) / "parts"), Store(Path(folder) / "home")
        save(parts / "wan-low_noise.safetensors", transformer(256), 2.0)
        save(parts / "wan-high_noise.safetensors", transformer(256), 1.0)
        save(parts / "new.safetensors", transformer(256), 3.0)
        for rank, name in enumerate(("lightning_high", "lightning_low", "style"), start=2):
            save(parts / f"{name}.safetensors", lora(256, rank=rank))
        receiver, sender = os.pipe()
        server = fork(lambda: serve(parts, sender))
        try:
            ship(Path(folder), parts, os.read(receiver, 100).decode())
            assert parse_name("wan-x") in library.names()
            within_s = finished(store, parts, shared.host)
            while killed < count:
                killed += round_of_kills(store, parts, shared.host, rng, within_s)
                promises(store)
                finished(store, parts, shared.host)
        finally:
            os.kill(server, signal.SIGKILL)
            os.waitpid(server, 0)
    return killed


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--count", type=int, default=300, help="processes to kill")
    arguments.add_argument("--seed", type=int, default=5)
    asked = arguments.parse_args()
    started = time.monotonic()
    killed = run(asked.count, asked.seed)
    sys.stdout.write(f"{killed} killed in {time.monotonic() - started:.0f} s, every promise held\n")


if __name__ == "__main__":
    main()
