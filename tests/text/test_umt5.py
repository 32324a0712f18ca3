"""Checks the encoder against transformers, and that nothing in its process can end ours."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.text.corpus import sentences
from tests.text.tiny import CONFIG, edited, reference_rows, relative_error
from wanrun import plugins
from wanrun.errors import EncoderError, FormatError, InvalidRequest, ModelNotFound
from wanrun.gguf.reader import read_gguf
from wanrun.gguf.writer import write_gguf
from wanrun.text.umt5 import UMT5Encoder, load
from wanrun.types import TextEncoder

PROMPTS = (
    "",
    "a red ball bounces on a blue surface",
    "一只猫在雪地里奔跑，電影質感 😀",
    "café naïve  &amp;amp; ﬁne\n\nœuvre",
    " ".join(sentences(4)),
    " ".join(sentences(6)),
    " ".join(sentences(8)),
    " ".join(sentences(100)),
)


@pytest.fixture(scope="module")
def shared(encoder_file: Path) -> Iterator[UMT5Encoder]:
    with load(encoder_file, threads=1) as loaded:
        yield loaded


@pytest.mark.parametrize("prompt", PROMPTS, ids=[f"{len(prompt)} characters" for prompt in PROMPTS])
def test_rows_equal_transformers(shared: UMT5Encoder, reference: Any, prompt: str) -> None:
    rows = shared.encode(prompt)
    ids = shared.tokenize(prompt)
    assert rows.dtype == torch.float32
    assert rows.shape == (len(ids), CONFIG.d_model)
    assert relative_error(rows, reference_rows(reference, ids)) <= 0.01


def test_the_prompts_reach_from_one_token_to_the_limit(shared: UMT5Encoder) -> None:
    lengths = [len(shared.tokenize(prompt)) for prompt in PROMPTS]
    assert lengths[0] == 1
    assert lengths[-1] == 512
    assert sum(5 < length < 100 for length in lengths) >= 3
    assert any(100 < length < 512 for length in lengths)


def test_the_comparison_notices_a_bias_shared_by_all_layers(shared: UMT5Encoder, reference: Any) -> None:
    attention = [block.layer[0].SelfAttention for block in reference.encoder.block]
    own = [layer.relative_attention_bias.weight.detach().clone() for layer in attention]
    ids = shared.tokenize(PROMPTS[4])
    try:
        for layer in attention[1:]:
            layer.relative_attention_bias.weight.data.copy_(own[0])
        assert relative_error(shared.encode(PROMPTS[4]), reference_rows(reference, ids)) > 0.1
    finally:
        for layer, weight in zip(attention, own, strict=True):
            layer.relative_attention_bias.weight.data.copy_(weight)


def test_an_empty_prompt_is_the_end_of_sequence_row(shared: UMT5Encoder) -> None:
    assert shared.tokenize("  ") == [1]
    assert shared.encode("  ").shape == (1, CONFIG.d_model)


def test_the_prompt_is_cleaned_first(shared: UMT5Encoder) -> None:
    assert shared.tokenize("  red &amp;amp;\n ball ") == shared.tokenize("red & ball")


def test_the_same_prompt_gives_the_same_bits(shared: UMT5Encoder) -> None:
    first = shared.encode(PROMPTS[4])
    shared.encode(PROMPTS[1])
    assert torch.equal(shared.encode(PROMPTS[4]), first)


def test_threads_may_share_an_encoder(shared: UMT5Encoder) -> None:
    expected = [shared.encode(prompt) for prompt in PROMPTS[:4]]
    results: dict[int, torch.Tensor] = {}

    def work(index: int) -> None:
        results[index] = shared.encode(PROMPTS[index % 4])

    threads = [threading.Thread(target=work, args=(index,)) for index in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(results[index], expected[index % 4]) for index in range(12))


def test_a_cut_prompt_is_warned_of(shared: UMT5Encoder, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "wanrun"):
        shared.encode(PROMPTS[-1] + " the very end")
    assert "512" in caplog.text


def test_it_is_registered_as_a_plugin_and_keeps_the_protocol(encoder_file: Path) -> None:
    encoder: TextEncoder
    with plugins.load("text_encoders", "umt5")(encoder_file) as encoder:
        assert encoder.encode("red").shape[1] == CONFIG.d_model


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV])
def test_a_process_that_dies_while_it_works_is_an_error(encoder: UMT5Encoder, signum: signal.Signals) -> None:
    os.kill(encoder.pid, signal.SIGSTOP)  # so that the request is surely under way when the signal comes

    def strike() -> None:
        os.kill(encoder.pid, signum)
        os.kill(encoder.pid, signal.SIGCONT)

    timer = threading.Timer(0.2, strike)
    timer.start()
    with pytest.raises(EncoderError, match=signum.name):
        encoder.encode("a red ball")
    timer.join()
    with pytest.raises(EncoderError):
        encoder.encode("a red ball")


def test_a_closed_encoder_says_so(encoder: UMT5Encoder) -> None:
    encoder.close()
    encoder.close()
    assert gone(encoder.pid)
    with pytest.raises(EncoderError, match="closed"):
        encoder.encode("a red ball")


def test_an_interrupted_request_ends_the_process(encoder: UMT5Encoder) -> None:
    os.kill(encoder.pid, signal.SIGSTOP)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            encoder.encode("a red ball")
    finally:
        timer.join()
        signal.signal(signal.SIGINT, handler)
    with pytest.raises(EncoderError):
        encoder.encode("a red ball")


def test_the_process_ends_when_its_parent_is_killed(encoder_file: Path) -> None:
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom wanrun.text.umt5 import load\n"
        "print(load(Path(sys.argv[1]), threads=1).pid, flush=True)\nos.kill(os.getpid(), 9)"
    )
    parent = subprocess.run(
        [sys.executable, "-c", program, str(encoder_file)], capture_output=True, text=True, check=False
    )
    assert parent.returncode == -signal.SIGKILL, parent.stderr
    pid = int(parent.stdout)
    deadline = time.monotonic() + 60
    while not gone(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert gone(pid)


def gone(pid: int) -> bool:
    """Whether the process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_what_llama_cpp_rejects_is_an_error_with_its_reason(encoder_file: Path, tmp_path: Path) -> None:
    wrong = edited(encoder_file, tmp_path / "wrong.gguf", t5encoder__feed_forward_length=512)
    with pytest.raises(EncoderError, match="wrong shape"):
        load(wrong, threads=1)


def test_an_abort_inside_llama_cpp_is_an_error(encoder_file: Path, tmp_path: Path) -> None:
    # llama.cpp asserts that keys and values have one head size, and calls abort() when they have not
    header = read_gguf(encoder_file)
    data = encoder_file.read_bytes()
    tensors = []
    for info in header.tensors.values():
        packed, shape = data[info.offset : info.offset + info.nbytes], info.shape
        if info.name.endswith(("attn_v.weight", "attn_o.weight")):
            shape = (64, 128) if "attn_v" in info.name else (128, 64)
            packed = packed[: info.nbytes // 2]
        tensors.append((info.name, info.type, shape, packed))
    wrong = tmp_path / "wrong.gguf"
    write_gguf(wrong, {**header.metadata, "t5encoder.attention.value_length": 32}, tensors)
    with pytest.raises(EncoderError, match=r"SIGABRT.*damaged"):
        load(wrong, threads=1)


def test_a_file_cut_short_is_refused(encoder_file: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(encoder_file.read_bytes()[:-5000])
    with pytest.raises(FormatError):
        load(cut, threads=1)


def test_weights_that_overflow_are_an_error(encoder_file: Path, tmp_path: Path) -> None:
    header = read_gguf(encoder_file)
    data = bytearray(encoder_file.read_bytes())
    info = header.tensors["enc.output_norm.weight"]
    data[info.offset : info.offset + 4] = bytes.fromhex("0000807f")  # infinity
    wrong = tmp_path / "wrong.gguf"
    wrong.write_bytes(data)
    with load(wrong, threads=1) as encoder, pytest.raises(EncoderError, match="overflowed"):
        encoder.encode("red")


def test_a_t5_is_refused(encoder_file: Path, tmp_path: Path) -> None:
    header = read_gguf(encoder_file)
    data = encoder_file.read_bytes()
    tensors = [
        (info.name, info.type, info.shape, data[info.offset : info.offset + info.nbytes])
        for info in header.tensors.values()
        if "attn_rel_b" not in info.name or ".0." in info.name
    ]
    shared_bias = tmp_path / "t5.gguf"
    write_gguf(shared_bias, header.metadata, tensors)
    with pytest.raises(InvalidRequest, match=r"t5\.gguf is a T5, not a UMT5"):
        load(shared_bias)


def test_another_architecture_is_refused(encoder_file: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="'wan'"):
        load(edited(encoder_file, tmp_path / "wan.gguf", general__architecture="wan"))


def test_a_header_without_sizes_is_refused(encoder_file: Path, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="block count of 0"):
        load(edited(encoder_file, tmp_path / "none.gguf", t5encoder__block_count=0))


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        load(tmp_path / "nothing.gguf")
