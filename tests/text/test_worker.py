"""Checks the encoder's process itself: what it imports, what it answers, how long it may take."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from wanrun.errors import EncoderError
from wanrun.text.child import Child
from wanrun.text.frames import IDS, READY, ROWS


@pytest.fixture
def child(encoder_file: Path) -> Iterator[Child]:
    started = Child(encoder_file, 1, 120)
    started.receive(READY)
    yield started
    started.close()


def test_the_worker_imports_neither_torch_nor_ftfy() -> None:
    program = "import sys, wanrun.text.worker; print([m for m in ('torch', 'ftfy') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"


def test_cleaning_and_tokenising_need_no_torch() -> None:
    program = "import sys, wanrun.text.clean, wanrun.text.tokenizer; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "False"


@pytest.mark.parametrize(
    ("ids", "problem"),
    [
        ([], "1 to 512 tokens, not 0"),
        ([5] * 513, "1 to 512 tokens, not 513"),
        ([10_000], "llama_encode failed"),
    ],
)
def test_requests_that_llama_cpp_cannot_do_are_errors_and_the_next_one_works(
    child: Child, ids: list[int], problem: str
) -> None:
    with pytest.raises(EncoderError, match=problem):
        child.ask(IDS, np.array(ids, dtype=np.int32).tobytes(), ROWS)
    assert len(child.ask(IDS, np.array([5, 1], dtype=np.int32).tobytes(), ROWS)) == 2 * 128 * 4


def test_an_unknown_request_is_an_error(child: Child) -> None:
    with pytest.raises(EncoderError, match="unknown request"):
        child.ask(b"?", b"", ROWS)


def test_a_process_that_hangs_is_given_up(child: Child) -> None:
    child.timeout_s = 0.3
    os.kill(child.pid, signal.SIGSTOP)
    with pytest.raises(EncoderError, match=r"did not answer within 0\.3 s"):
        child.ask(IDS, np.array([1], dtype=np.int32).tobytes(), ROWS)
    with pytest.raises(EncoderError):
        child.ask(IDS, np.array([1], dtype=np.int32).tobytes(), ROWS)


def test_a_worker_that_cannot_start_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    child = Child(tmp_path / "nothing.gguf", 1, 120)
    try:
        with pytest.raises(EncoderError, match=r"cannot load the model\n  .*nothing\.gguf"):
            child.receive(READY)
    finally:
        child.close()
