"""Times quantising a 1.3B-shaped transformer to Q4_K: ``python -m tests.benchmarks.quantising [--repeats
3]``.

The same file is quantised by us and by llama.cpp's own quantiser (``llama_model_quantize``, what
llama-quantize calls) to the same types, in turn, each in a process of its own and with as many threads.
Prints seconds, ratios and the most anonymous memory; checks that both made the same bytes. Fails below 80 %
of the C tool's speed or above 1 GB. Then the same for the conversion of that file's tensors in F32, whose
memory must not grow with the checkpoint.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.benchmarks.children import Outcome, run_child
from wanrun.gguf.weights import open_weights
from wanrun.gguf.writer import TensorSource, write_gguf
from wanrun.wan.config import WanConfig
from wanrun.wan.model import WanModel

CONFIG = WanConfig(width=1536, ffn_width=8960, layers=30, in_channels=16, out_channels=16, text_width=4096)
MOST_BYTES = 1_000_000_000
LEAST_SPEED = 0.8
#: What llama.cpp wants to know of a model that it quantises, whatever its tensors are.
_SIZES = {
    "context_length": 512, "embedding_length": 1536, "feed_forward_length": 8960, "block_count": 30,
    "attention.head_count": 12, "attention.key_length": 128, "attention.value_length": 128,
    "attention.layer_norm_epsilon": 1e-6, "attention.layer_norm_rms_epsilon": 1e-6,
    "attention.relative_buckets_count": 32, "vocab_size": 64,
}  # fmt: skip


def write_source(path: Path) -> None:
    """A transformer in F16 that both can read: without its 5-D patch embedding, which ggml cannot hold."""
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in WanModel(CONFIG).state_dict().items()}
    del shapes["patch_embedding.weight"]
    tensors: list[TensorSource] = [
        (name, "F16" if len(shape) == 2 else "F32", shape, partial(_values, index, shape))
        for index, (name, shape) in enumerate(shapes.items())
    ]
    metadata: dict[str, object] = {"general.architecture": "t5encoder", "tokenizer.ggml.model": "no_vocab"}
    write_gguf(path, metadata | {f"t5encoder.{name}": size for name, size in _SIZES.items()}, tensors)


def _values(seed: int, shape: tuple[int, ...]) -> Any:
    values = np.random.default_rng(seed).standard_normal(shape, np.float32) * np.float32(shape[-1] ** -0.5)
    return values.astype(np.float16) if len(shape) == 2 else values


def by_wanrun(source: Path, target: Path) -> None:
    from wanrun.wan.requantize import quantize_transformer

    quantize_transformer(source, target, "Q4_K_S", lambda *progress: None, rules=(("*", "Q4_K"),))


def by_llama_cpp(source: Path, target: Path) -> None:
    import llama_cpp

    quiet = llama_cpp.llama_log_callback(lambda *said: None)
    llama_cpp.llama_log_set(quiet, None)
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype, parameters.pure = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M, True
    parameters.nthread = len(os.sched_getaffinity(0))
    rules = (llama_cpp.llama_model_tensor_override * 2)()
    rules[0].pattern, rules[0].type = b"^(text|time|head)", 1  # F16, as they are
    parameters.tt_overrides = rules
    paths = str(source).encode(), str(target).encode()
    if llama_cpp.llama_model_quantize(*paths, ctypes.byref(parameters)):
        raise SystemExit("llama_model_quantize failed")


def by_conversion(source: Path, target: Path) -> None:
    from wanrun.gguf.checkpoint import open_checkpoint
    from wanrun.gguf.requantize import Output, requantize

    with open_checkpoint(source) as checkpoint:
        outputs = [Output(name, "F32", name) for name in checkpoint.header.tensors]
        requantize(checkpoint, target, outputs, {}, lambda *progress: None)


WAYS = {"wanrun": by_wanrun, "llama.cpp": by_llama_cpp, "conversion": by_conversion}


def measure(way: str, source: Path, target: Path) -> Outcome:
    outcome = run_child(
        "tests.benchmarks.quantising", {"way": way, "source": str(source), "target": str(target)}
    )
    if outcome.problem:
        raise SystemExit(f"{way}: {outcome.problem}")
    return outcome


def child(task: dict[str, str]) -> None:
    begin = time.perf_counter()
    WAYS[task["way"]](Path(task["source"]), Path(task["target"]))
    print(json.dumps({"seconds": time.perf_counter() - begin}))  # noqa: T201


def same_tensors(ours: Path, theirs: Path) -> bool:
    with open_weights(ours) as first, open_weights(theirs) as second:
        return set(first.names) == set(second.names) and all(
            first.type(name) == second.type(name)
            and torch.equal(first.packed(name).data, second.packed(name).data)
            for name in first.names
        )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", help="where 7 GB are free")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        folder = Path(name)
        source, ours, theirs = folder / "f16.gguf", folder / "ours.gguf", folder / "theirs.gguf"
        write_source(source)
        ratios, peak = [], 0
        for _ in range(asked.repeats):
            mine, other = measure("wanrun", source, ours), measure("llama.cpp", source, theirs)
            ratios.append(other.told["seconds"] / mine.told["seconds"])
            peak = max(peak, mine.peak_bytes)
            print(  # noqa: T201
                f"wanrun {mine.told['seconds']:.1f} s, {mine.peak_bytes / 1e9:.2f} GB; "
                f"llama.cpp {other.told['seconds']:.1f} s, {other.peak_bytes / 1e9:.2f} GB"
            )
        same = same_tensors(ours, theirs)
        ratio = statistics.median(ratios)
        print(f"speed / llama.cpp's: {ratio:.2f} (median of {len(ratios)}); same bytes: {same}")  # noqa: T201
        converted = measure("conversion", source, folder / "f32.gguf")
        print(  # noqa: T201
            f"conversion to F32: {converted.told['seconds']:.1f} s, {converted.peak_bytes / 1e9:.2f} GB"
        )
    return 0 if same and ratio >= LEAST_SPEED and max(peak, converted.peak_bytes) <= MOST_BYTES else 1


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):
        child(json.loads(sys.argv[1]))
    else:
        sys.exit(main(sys.argv[1:]))
