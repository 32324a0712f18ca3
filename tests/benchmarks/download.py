"""Times a download against ``curl | sha256sum``: ``python -m tests.benchmarks.download [--mib 256]``.

Both take the same file from the same local server, in turns, ours into a folder in memory with all checks.
Prints the best of each and the ratio of the speeds; fails below 0.8.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from wanrun.sources.download import Remote, download
from wanrun.store.digest import Digest

_MEMORY = Path("/dev/shm")
_SERVER = """
import sys
from pathlib import Path
from tests.sources.servers import serving
with serving({"/file": Path(sys.argv[1]).read_bytes()}) as site:
    print(site.url, flush=True)
    sys.stdin.read()
"""


@contextmanager
def server(path: Path) -> Iterator[str]:
    """The url of the file at ``path``, from a server in another process."""
    command = [sys.executable, "-c", _SERVER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        yield process.stdout.readline().strip() + "/file"
        process.stdin.close()


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def compare(url: str, digest: Digest, size: int, folder: Path, turns: int) -> tuple[float, float]:
    """Best seconds of ours and of theirs."""

    def ours() -> None:
        download(Remote(url, size, digest), folder, lambda phase, done, total: None)

    def theirs() -> None:
        command = f"curl --silent --fail {url} | sha256sum"
        done = subprocess.run(command, shell=True, check=True, capture_output=True, text=True)
        assert done.stdout.split()[0] == digest.hex

    times = []
    for _ in range(turns):
        times.append((seconds(ours), seconds(theirs)))
        (folder / digest.file_name).unlink()
    return min(mine for mine, _ in times), min(other for _, other in times)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        path = Path(folder) / "file"
        data = (bytes(range(256)) * 4096) * given.mib
        path.write_bytes(data)
        with server(path) as url:
            mine, other = compare(url, Digest.of(data), len(data), Path(folder) / "blobs", given.turns)
    speeds = f"{given.mib / mine:.0f} MiB/s; curl | sha256sum {given.mib / other:.0f}"
    print(f"{given.mib} MiB: {speeds}, so ours has {other / mine:.2f} of its speed")  # noqa: T201
    return 0 if other / mine >= 0.8 else 1


if __name__ == "__main__":
    sys.exit(main())
