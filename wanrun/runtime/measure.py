"""Measures this machine, as a process of its own: ``python -m wanrun.runtime.measure DEVICE``.

It imports what a run imports, so that what that weighs is known, and prints everything as one line of JSON.
Without DEVICE it only does what every run does before it works, for its time to be taken. Seconds of starting
are the processor's, so that a busy machine or a cold cache count little.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from wanrun import plugins, settings
from wanrun.errors import WanrunError
from wanrun.gguf.ggml import quantize
from wanrun.gguf.writer import TensorSource, write_gguf
from wanrun.runtime.machine import Machine, Rates
from wanrun.runtime.shapes import ITEM_BYTES
from wanrun.text.child import Child
from wanrun.text.frames import IDS, READY, ROWS
from wanrun.video.writer import open_writer
from wanrun.wan import devices, measure

_PARTS = (("text_encoders", "umt5"), ("backends", "torch"), ("decoders", "vae"), ("samplers", "unipc"))
#: What else a run imports at some time.
_MODULES = (
    "wanrun.runtime.estimate",
    "wanrun.runtime.generate",
    "wanrun.decoders.latents",
    "wanrun.sampling.guidance",
    "wanrun.store.creation",
)
_ENCODERS = ("F16", "Q8_0", "Q5_K")
_ENCODER = {"width": 512, "ffn": 1024, "layers": 2, "heads": 8, "vocabulary": 64, "tokens": 48}
_SIDE, _FRAMES = 128, 16
#: Enough of them for the processor's clock, which ticks a hundred times a second.
_PROMPTS = 20
_TIMEOUT_S = 120.0
_WATCH_S = 1.0


def main(device: str) -> None:
    """Print the fields of ``Machine``; raises InvalidRequest for a device that is not there."""
    import_parts()
    import_bytes, started = anonymous_bytes("self"), time.process_time()
    device = devices.pick_device(device)
    automatic = str(devices.pick_dtype("auto", device)).removeprefix("torch.")
    precision = {"float32": "fp32", "bfloat16": "bf16"}[automatic]
    measure.first_network()
    network_s, network_bytes = time.process_time() - started, anonymous_bytes("self")
    unpack, matrix_s = measure.unpacking(precision, device)
    encode, encoder_s, encoder_bytes = encoding()
    machine = Machine(
        device=device,
        precision=precision,
        import_bytes=import_bytes,
        import_s=max(0.0, empty_run_s() - network_s),
        network_bytes=network_bytes,
        network_s=network_s,
        encoder_bytes=encoder_bytes,
        encoder_s=encoder_s,
        rates={name: Rates(**measure.rates(name, device)) for name in ITEM_BYTES},  # type: ignore[arg-type]
        unpack=unpack,
        matrix_s=matrix_s,
        encode=encode,
        write=writing(),
        device_bytes=measure.device_bytes(device),
        link=measure.link(device),
    )
    print(json.dumps(asdict(machine)))  # noqa: T201


def end_with_parent() -> None:
    """Have this process end when the one that started it is gone: nobody would hear what it measures."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def import_parts() -> None:
    """Import what a run imports."""
    for group, name in _PARTS:
        plugins.load(group, name)
    for module in _MODULES:
        import_module(module)


def empty_run_s() -> float:
    """Seconds of processor of a process that imports all, builds a network and ends, which takes long."""
    before = os.times()
    subprocess.run([sys.executable, "-P", "-m", "wanrun.runtime.measure"], check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def anonymous_bytes(pid: int | str) -> int:
    """Bytes of a process that no file backs; 0 where the system does not say."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("RssAnon", "RssShmem")))


def encoding() -> tuple[dict[str, float], float, int]:
    """Operations a second of the text encoder by storage type; an empty one's seconds to start and bytes."""
    speeds: dict[str, float] = {}
    starts, taken = [], []
    with TemporaryDirectory() as folder:
        for kind in _ENCODERS:
            path = Path(folder) / f"{kind}.gguf"
            elements = write_encoder(path, kind)
            with closing(Child(path, settings.threads(), _TIMEOUT_S)) as child:
                child.receive(READY)
                starts.append(_processor_s(child.pid))
                speeds[kind] = 2.0 * elements * _ENCODER["tokens"] / _encode_s(child)
                taken.append(anonymous_bytes(child.pid))
    return speeds, min(starts), min(taken)


def write_encoder(path: Path, kind: str) -> int:
    """Write a random UMT5 encoder whose matrices are of type ``kind``; how many elements they have."""
    width, ffn, layers, heads = (_ENCODER[name] for name in ("width", "ffn", "layers", "heads"))
    sizes = {
        "context_length": 512,
        "embedding_length": width,
        "feed_forward_length": ffn,
        "block_count": layers,
        "attention.head_count": heads,
        "attention.key_length": width // heads,
        "attention.value_length": width // heads,
        "attention.layer_norm_epsilon": 1e-6,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "attention.relative_buckets_count": 32,
        "vocab_size": _ENCODER["vocabulary"],
    }
    metadata: dict[str, object] = {"general.architecture": "t5encoder", "tokenizer.ggml.model": "no_vocab"}
    metadata |= {f"t5encoder.{name}": value for name, value in sizes.items()}
    random = np.random.default_rng(0)

    def matrix(rows: int, columns: int) -> bytes:
        return quantize(kind, random.standard_normal((rows, columns), np.float32))

    tensors: list[TensorSource] = [
        ("token_embd.weight", kind, (64, width), matrix(64, width)),
        ("enc.output_norm.weight", "F32", (width,), np.ones(width, np.float32)),
    ]
    elements = 0
    for layer in range(layers):
        block = f"enc.blk.{layer}."
        for name in ("attn_norm", "ffn_norm"):
            tensors.append((f"{block}{name}.weight", "F32", (width,), np.ones(width, np.float32)))
        bias = np.zeros((32, heads), np.float32)
        tensors.append((f"{block}attn_rel_b.weight", "F32", bias.shape, bias))
        shapes = dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_o"), (width, width))
        shapes |= {"ffn_gate": (ffn, width), "ffn_up": (ffn, width), "ffn_down": (width, ffn)}
        for name, shape in shapes.items():
            tensors.append((f"{block}{name}.weight", kind, shape, matrix(*shape)))
            elements += shape[0] * shape[1]
    write_gguf(path, metadata, tensors)
    return elements


def _encode_s(child: Child) -> float:
    """Seconds of one prompt: the fastest on the wall, or of the processor if there are fewer."""
    ids = np.arange(2, 2 + _ENCODER["tokens"], dtype=np.int32).tobytes()
    child.ask(IDS, ids, ROWS)
    times, before = [], _processor_s(child.pid)
    for _ in range(_PROMPTS):
        started = time.perf_counter()
        child.ask(IDS, ids, ROWS)
        times.append(time.perf_counter() - started)
    processor = (_processor_s(child.pid) - before) / _PROMPTS
    return min(min(times), processor) if processor else min(times)


def _processor_s(pid: int) -> float:
    """Seconds of processor that a process has taken; 0 where the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def writing() -> float:
    """Pixels a second of H.264, for a picture that moves."""
    rows, columns = np.mgrid[:_SIDE, :_SIDE]
    frames = [
        np.stack([rows + 3 * index, columns + 2 * index, rows + columns], axis=-1).astype(np.uint8)
        for index in range(_FRAMES)
    ]
    with TemporaryDirectory() as folder:
        started = time.process_time()
        with open_writer(Path(folder) / "moving.mp4", 16, None, {}) as writer:
            for frame in frames:
                writer.write(frame)
        return _FRAMES * _SIDE * _SIDE / max(time.process_time() - started, 1e-6)


if __name__ == "__main__":
    end_with_parent()
    if len(sys.argv) == 1:
        import_parts()
        measure.first_network()
        sys.exit()
    try:
        main(sys.argv[1])
    except WanrunError as mistake:
        sys.exit(str(mistake))
