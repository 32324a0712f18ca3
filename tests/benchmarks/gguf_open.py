"""Times opening a GGUF with a large vocabulary: ``python -m tests.benchmarks.gguf_open [--tokens 256384]``.

Prints our seconds, those of the gguf package's GGUFReader, and the ratio. Fails when ours takes a second.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from array import array
from collections.abc import Callable
from pathlib import Path

from gguf import GGUFReader

from wanrun.gguf.header import read_header
from wanrun.gguf.writer import write_gguf


def fastest(work: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest of ``repeats`` calls."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=256_384)
    count = parser.parse_args(arguments).tokens
    metadata = {
        "general.architecture": "t5encoder",
        "tokenizer.ggml.tokens": [f"▁token{i}" for i in range(count)],
        "tokenizer.ggml.scores": array("f", bytes(4 * count)),
        "tokenizer.ggml.token_type": array("i", bytes(4 * count)),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocabulary.gguf"
        write_gguf(path, metadata, [])
        ours = fastest(lambda: read_header(path), 3)
        theirs = fastest(lambda: GGUFReader(path), 1)
    print(f"{count} tokens: {ours:.3f} s; GGUFReader {theirs:.2f} s, {theirs / ours:.0f} times as long")  # noqa: T201
    return 0 if ours < 1 else 1


if __name__ == "__main__":
    sys.exit(main())
