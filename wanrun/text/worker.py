"""Owns llama.cpp, as a process of its own: ``python -m wanrun.text.worker MODEL THREADS``.

It reads frames of token ids on stdin and answers each with a frame of float32 rows on stdout, until stdin
ends. It stands alone because llama.cpp aborts the whole process on what it does not expect, and so that all
of the encoder's memory goes back to the system when it ends.

The low-level calls are needed: ``Llama.embed`` runs a T5 encoder through ``llama_decode``, whose causal mask
gives wrong vectors without a word.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from typing import Any, BinaryIO

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from wanrun.text.frames import ERROR, IDS, READY, ROWS, read_frame, write_frame

MAX_TOKENS = 512
#: ggml.h's GGML_LOG_LEVEL_ERROR. The logger of llama-cpp-python 0.3.36 has older numbers, and drops errors.
_ERROR_LEVEL = 4


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def log_errors(level: int, text: bytes, _user_data: ctypes.c_void_p) -> None:
    if level == _ERROR_LEVEL:
        os.write(2, text)


def open_context(path: str, threads: int) -> tuple[Any, int]:
    """A llama.cpp context on the model's memory-mapped file, and the model's width. Raises RuntimeError."""
    llama_cpp.llama_backend_init()
    model_params = llama_cpp.llama_model_default_params()
    model_params.n_gpu_layers = 0
    # Repacked weights would be a second copy of the file in memory; the map is shared and can be dropped.
    model_params.use_extra_bufts = False
    model = llama_cpp.llama_model_load_from_file(os.fsencode(path), model_params)
    if not model:
        raise RuntimeError("llama.cpp cannot load the model")
    params = llama_cpp.llama_context_default_params()
    # An encoder takes its whole input in one micro-batch; a smaller one makes llama.cpp abort.
    params.n_ctx = params.n_batch = params.n_ubatch = MAX_TOKENS
    params.n_threads = params.n_threads_batch = threads
    params.embeddings = True
    params.pooling_type = llama_cpp.LLAMA_POOLING_TYPE_NONE
    # Flash attention has no place for T5's relative position bias.
    params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.offload_kqv = params.op_offload = False
    context = llama_cpp.llama_init_from_model(model, params)
    if not context:
        raise RuntimeError("llama.cpp cannot make a context for the model")
    return context, llama_cpp.llama_model_n_embd(model)


def encode(context: Any, width: int, ids: NDArray[np.int32]) -> NDArray[np.float32]:
    """(tokens, width): the encoder's last hidden state after its final norm. Raises RuntimeError."""
    if not 1 <= len(ids) <= MAX_TOKENS:
        raise RuntimeError(f"a prompt must have 1 to {MAX_TOKENS} tokens, not {len(ids)}")
    batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
    try:
        batch.n_tokens = len(ids)
        for index, token in enumerate(ids):
            batch.token[index] = int(token)
            batch.pos[index] = index
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = 0
            batch.logits[index] = 1
        status = llama_cpp.llama_encode(context, batch)
    finally:
        llama_cpp.llama_batch_free(batch)
    rows = llama_cpp.llama_get_embeddings(context)
    if status != 0 or not rows:
        raise RuntimeError(f"llama_encode failed with status {status}")
    return np.ctypeslib.as_array(rows, shape=(len(ids), width))


def serve(path: str, threads: int, requests: BinaryIO, answers: BinaryIO) -> int:
    """Answer requests until they end; the exit status."""
    try:
        context, width = open_context(path, threads)
    except RuntimeError as error:
        write_frame(answers, ERROR, str(error).encode())
        return 1
    write_frame(answers, READY, struct.pack("=I", width))
    while (frame := read_frame(requests)) is not None:
        kind, payload = frame
        try:
            if kind != IDS:
                raise RuntimeError(f"unknown request {kind!r}")
            rows = encode(context, width, np.frombuffer(payload, dtype=np.int32))
        except RuntimeError as error:
            write_frame(answers, ERROR, str(error).encode())
        else:
            write_frame(answers, ROWS, rows.tobytes())
    return 0


def main(path: str, threads: str) -> int:
    # llama.cpp and its backends print to stdout; the answers must have a pipe of their own.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    llama_cpp.llama_log_set(log_errors, ctypes.c_void_p())
    return serve(path, int(threads), sys.stdin.buffer, answers)


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except BrokenPipeError:
        sys.exit(0)  # the caller is gone
