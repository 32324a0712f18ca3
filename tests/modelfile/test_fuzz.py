"""Runs a seeded slice of the fuzzer in a process of its own, and shows that its checks bite."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fuzzing import Failure
from tests.modelfile import fuzz
from wanrun.modelfile.grammar import parse

ROOT = Path(__file__).parents[2]


def test_mutated_modelfiles() -> None:
    """1,000 of them; the whole run is ``python -m tests.modelfile.fuzz --count 20000``."""
    command = [sys.executable, "-m", "tests.modelfile.fuzz", "--count", "1000", "--seed", "7"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    refused, parsed = (int(word) for word in done.stdout.split() if word.isdigit() and word != "1000")
    assert refused + parsed == 1000
    assert parsed > 200, "mutations that nothing survives test only the first check"


def test_the_fuzzer_notices_a_wrong_parse() -> None:
    source = b"FROM a\nSYSTEM some text\n"
    modelfile = parse(source)
    fuzz.correct(source, modelfile)
    for wrong in (replace(modelfile, system="some txet"), replace(modelfile, from_="a\nSYSTEM")):
        with pytest.raises(Failure):
            fuzz.correct(source, wrong)
