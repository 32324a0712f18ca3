"""Runs a seeded slice of the fuzzer in a process of its own, and shows that its checks bite."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.gguf import fuzz
from tests.gguf.samples import plain_gguf
from wanrun.gguf.header import read_header
from wanrun.gguf.layout import Header

ROOT = Path(__file__).parents[2]


def test_mutated_headers() -> None:
    """3,000 of them; the whole run is ``python -m tests.gguf.fuzz --count 200000``."""
    command = [sys.executable, "-m", "tests.gguf.fuzz", "--count", "3000", "--seed", "7"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    refused, parsed = (int(word) for word in done.stdout.split() if word.isdigit() and word != "3000")
    assert refused + parsed == 3000
    assert parsed > 100, "mutations that nothing survives test only the first check"


def test_the_fuzzer_notices_a_wrong_parse(tmp_path: Path) -> None:
    path = tmp_path / "w.gguf"
    path.write_bytes(plain_gguf().data)
    header = read_header(path)
    assert fuzz.agree(path, header)
    assert not fuzz.agree(path, Header(path, "gguf", {}, {}))
