"""Owns a language model in llama.cpp, as a process: ``python -m wanrun.text.instruct_worker MODEL THREADS``.

It reads questions on stdin and answers each, until stdin ends. As the encoder's worker, it stands alone
because llama.cpp aborts the process on what it does not expect, and so that all memory goes back at its end.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from dataclasses import dataclass
from typing import Any, BinaryIO

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from wanrun.text.frames import ASK, ERROR, READY, SAID, read_frame, write_frame
from wanrun.text.worker import log_errors

CONTEXT = 2048
#: The likeliest tokens, among which the grammar chooses; all are asked only if it allows none of these.
_LIKELY = 128
#: Stands for the prompt while the model's chat template is applied; no text of ours has it.
_HERE = "\x1aprompt\x1a"
_PIECE_BYTES = 256


@dataclass(frozen=True, slots=True)
class Model:
    """A loaded model, its context and its vocabulary: llama.cpp's handles."""

    model: Any
    context: Any
    vocabulary: Any

    @property
    def tokens(self) -> int:
        """The size of the vocabulary."""
        return int(llama_cpp.llama_vocab_n_tokens(self.vocabulary))


def open_model(path: str, threads: int) -> Model:
    """The model on its memory-mapped file, on the CPU. Raises RuntimeError where llama.cpp cannot load it."""
    llama_cpp.llama_backend_init()
    model_params = llama_cpp.llama_model_default_params()
    model_params.n_gpu_layers = 0
    model = llama_cpp.llama_model_load_from_file(os.fsencode(path), model_params)
    if not model:
        raise RuntimeError("llama.cpp cannot load the model")
    if llama_cpp.llama_model_has_encoder(model) or not llama_cpp.llama_model_has_decoder(model):
        raise RuntimeError("this is no language model that writes text")
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = CONTEXT
    params.n_threads = params.n_threads_batch = threads
    params.offload_kqv = params.op_offload = False
    context = llama_cpp.llama_init_from_model(model, params)
    if not context:
        raise RuntimeError("llama.cpp cannot make a context for the model")
    return Model(model, context, llama_cpp.llama_model_get_vocab(model))


def answer(model: Model, asked: dict[str, Any]) -> str:
    """What the model writes within the grammar; raises RuntimeError for a question that is too long."""
    before, after = question(model, asked)
    # only our own words may hold the model's control tokens: a prompt's "<end_of_turn>" is text
    ids = tokenize(model, before, first=True, special=True)
    ids += tokenize(model, asked["prompt"], first=False, special=False)
    ids += tokenize(model, after, first=False, special=True)
    if len(ids) + asked["tokens"] > CONTEXT:
        raise RuntimeError(f"the prompt and its brief have {len(ids)} tokens, of {CONTEXT - asked['tokens']}")
    grammar = llama_cpp.llama_sampler_init_grammar(model.vocabulary, asked["grammar"].encode(), b"root")
    if not grammar:
        raise RuntimeError("llama.cpp does not take the grammar")
    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(model.context), True)
    rng = np.random.Generator(np.random.PCG64(asked["seed"]))
    said = b""
    for _ in range(asked["tokens"]):
        logits = next_logits(model, ids)
        token = choose(grammar, logits, asked["temperature"], rng)
        if llama_cpp.llama_vocab_is_eog(model.vocabulary, token):
            break
        llama_cpp.llama_sampler_accept(grammar, token)
        said += piece(model, token)
        ids = [token]
    llama_cpp.llama_sampler_free(grammar)
    return said.decode(errors="replace")


def next_logits(model: Model, ids: list[int]) -> NDArray[np.float32]:
    """(vocabulary,) of the token behind ``ids``, which go on with what was read before."""
    tokens = (llama_cpp.llama_token * len(ids))(*ids)
    status = llama_cpp.llama_decode(model.context, llama_cpp.llama_batch_get_one(tokens, len(ids)))
    logits = llama_cpp.llama_get_logits_ith(model.context, -1)
    if status != 0 or not logits:
        raise RuntimeError(f"llama_decode failed with status {status}")
    return np.ctypeslib.as_array(logits, shape=(model.tokens,)).copy()


def choose(grammar: Any, logits: NDArray[np.float32], temperature: float, rng: np.random.Generator) -> int:
    """A token that the grammar allows, drawn from the likeliest; at temperature 0 the likeliest."""
    likely = np.argpartition(logits, -_LIKELY)[-_LIKELY:] if len(logits) > _LIKELY else np.arange(len(logits))
    for candidates in (likely, np.arange(len(logits))):
        allowed = candidates[_allowed(grammar, candidates, logits)]
        if not len(allowed):
            continue
        # ties and the partition's order must not decide what a seed means
        allowed = allowed[np.lexsort((allowed, -logits[allowed]))]
        if temperature == 0:
            return int(allowed[0])
        scaled = (logits[allowed] - logits[allowed[0]]).astype(np.float64) / temperature
        shares = np.exp(scaled)
        return int(rng.choice(allowed, p=shares / shares.sum()))
    raise RuntimeError("the grammar allows none of the model's tokens")


def _allowed(grammar: Any, candidates: NDArray[np.intp], logits: NDArray[np.float32]) -> NDArray[np.bool_]:
    count = len(candidates)
    entries = (llama_cpp.llama_token_data * count)()
    for entry, token in zip(entries, candidates.tolist(), strict=True):
        entry.id, entry.logit = token, float(logits[token])
    array = llama_cpp.llama_token_data_array(data=entries, size=count, selected=-1, sorted=False)
    llama_cpp.llama_sampler_apply(grammar, ctypes.byref(array))
    return np.array([entry.logit != -np.inf for entry in entries])


def tokenize(model: Model, text: str, first: bool, special: bool) -> list[int]:
    """Token ids; control tokens are read as such only if ``special``."""
    data = text.encode("utf-8", "replace")
    tokens = (llama_cpp.llama_token * (len(data) + 8))()
    count = llama_cpp.llama_tokenize(model.vocabulary, data, len(data), tokens, len(tokens), first, special)
    if count < 0:
        raise RuntimeError("llama.cpp cannot tokenise the prompt")
    return list(tokens[:count])


def piece(model: Model, token: int) -> bytes:
    """The bytes that a token stands for."""
    buffer = ctypes.create_string_buffer(_PIECE_BYTES)
    length = llama_cpp.llama_token_to_piece(model.vocabulary, token, buffer, len(buffer), 0, False)
    return buffer.raw[: max(0, length)]


def question(model: Model, asked: dict[str, Any]) -> tuple[str, str]:
    """What stands before the prompt and behind it: in the model's chat template, or as more examples.

    The template is applied by llama.cpp, which knows the common ones and runs no code of the file's.
    """
    template = llama_cpp.llama_model_chat_template(model.model, None)
    if template:
        whole = _templated(template, f"{asked['brief']}\n\n{asked['examples']}\nPrompt: {_HERE}")
        if whole is not None:
            before, _, after = whole.partition(_HERE)
            return before, after
    return f"{asked['brief']}\n\n{asked['examples']}\nPrompt: ", "\nJSON: "


def _templated(template: bytes, content: str) -> str | None:
    """One message of the user's, None where llama.cpp does not know the template."""
    message = llama_cpp.llama_chat_message(role=b"user", content=content.encode())
    buffer = ctypes.create_string_buffer(2 * len(content.encode()) + 4096)
    length = llama_cpp.llama_chat_apply_template(
        template, ctypes.pointer(message), 1, True, buffer, len(buffer)
    )
    return buffer.raw[:length].decode(errors="replace") if 0 < length <= len(buffer) else None


def serve(path: str, threads: int, requests: BinaryIO, answers: BinaryIO) -> int:
    """Answer questions until they end; the exit status."""
    try:
        model = open_model(path, threads)
    except RuntimeError as error:
        write_frame(answers, ERROR, str(error).encode())
        return 1
    write_frame(answers, READY, b"")
    while (frame := read_frame(requests)) is not None:
        kind, payload = frame
        try:
            if kind != ASK:
                raise RuntimeError(f"unknown request {kind!r}")
            said = answer(model, json.loads(payload))
        except (RuntimeError, ValueError) as error:
            write_frame(answers, ERROR, str(error).encode())
        else:
            write_frame(answers, SAID, said.encode("utf-8", "replace"))
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
