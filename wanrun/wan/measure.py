"""Measures how fast this machine does what a run does: the parts of Wan's networks, on random weights.

Each is timed as the shortest of a few runs, and on the CPU by the processor's clock where that is less, so
that other processes disturb little.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from wanrun.gguf.dequantize import dequantize
from wanrun.gguf.types import tensor_type
from wanrun.wan.config import WanConfig
from wanrun.wan.devices import pick_dtype
from wanrun.wan.model import Block, WanModel
from wanrun.wan.rope import rotation
from wanrun.wan.tiny import Memory, MemoryBlock
from wanrun.wan.vae import Past, ResidualBlock

_REPEATS = 3
_WIDTH, _FFN_WIDTH, _TEXT_TOKENS = 256, 1024, 16
_FEW, _MANY = 32, 512
#: Channels of the VAE's convolutions, and the sides of pictures that keep each as long as the others.
_CONVOLUTIONS = {16: 32, 64: 24, 192: 12, 384: 8}
_TINY_CHANNELS, _TINY_SIDE = 64, 32
_PACKED = ("F16", "Q8_0", "Q4_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
_MATRIX = (1024, 1024)
_SMALL_MATRIX = (16, 256)
_SENT_BYTES = 1 << 28


def shortest(work: Callable[[], object], device: str, repeats: int = _REPEATS) -> float:
    """Seconds of the fastest of ``repeats`` runs, after one that does not count."""
    return min([elapsed(work, device) for _ in range(repeats + 1)][1:])


def elapsed(work: Callable[[], object], device: str) -> float:
    """Seconds of ``work``: those on the wall, or the processor's if they are fewer."""
    _wait(device)
    wall, processor = time.perf_counter(), time.process_time()
    work()
    _wait(device)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return min(wall, processor) if device == "cpu" else wall


def first_network() -> None:
    """Build a network without weights: the first one in a process makes torch import a good deal more."""
    with torch.device("meta"):
        WanModel(WanConfig(_WIDTH, _FFN_WIDTH, 1, 16, 16, 64))


def device_bytes(device: str) -> int:
    """The memory of an accelerator, 0 for the CPU."""
    if device == "cpu":
        return 0
    return int(torch.cuda.get_device_properties(device).total_memory) if device.startswith("cuda") else 0


def link(device: str) -> float:
    """Bytes a second from pinned main memory to an accelerator, 0 for the CPU."""
    if not device_bytes(device):
        return 0.0
    sent = torch.empty(_SENT_BYTES, dtype=torch.uint8, pin_memory=True)
    memory = torch.empty_like(sent, device=device)
    return _SENT_BYTES / shortest(lambda: memory.copy_(sent, non_blocking=True), device)


@torch.inference_mode()
def rates(name: str, device: str) -> dict[str, object]:
    """The fields of ``wanrun.runtime.machine.Rates`` for the precision ``name``."""
    precision = pick_dtype(name, device)
    linear = _linear(precision, device)
    attention = _attention(precision, device)
    block_s, element_s = _block(precision, device, linear, attention)
    convolution, prepare_s = {}, 0.0
    for channels, side in _CONVOLUTIONS.items():
        speed, first_s = _convolution(channels, side, precision, device)
        convolution[str(channels)] = speed
        prepare_s = first_s if channels == min(_CONVOLUTIONS) else prepare_s
    return {
        "linear": linear,
        "attention": attention,
        "block_s": block_s,
        "element_s": element_s,
        "convolution": convolution,
        "tiny": _tiny(precision, device),
        "prepare_s": prepare_s,
    }


@torch.inference_mode()
def unpacking(name: str, device: str) -> tuple[dict[str, float], float]:
    """Elements a second to the precision ``name`` by storage type; seconds of a call for next to nothing."""
    precision, found = pick_dtype(name, device), {}
    for kind in _PACKED:
        seconds = shortest(lambda kind=kind: _unpack(kind, _MATRIX, precision, device), device)  # type: ignore[misc]
        found[kind] = _MATRIX[0] * _MATRIX[1] / seconds
    return found, shortest(lambda: _unpack("Q8_0", _SMALL_MATRIX, precision, device), device)


def _wait(device: str) -> None:
    if device != "cpu":
        torch.accelerator.synchronize()


def _unpack(kind: str, shape: tuple[int, int], precision: torch.dtype, device: str) -> Tensor:
    nbytes = tensor_type(kind).nbytes(shape[0] * shape[1])
    return dequantize(kind, torch.zeros(nbytes, dtype=torch.uint8, device=device), shape, precision)


def _linear(precision: torch.dtype, device: str) -> float:
    rows, columns, outputs = 256, 1024, 1024
    inputs = torch.randn(rows, columns, device=device, dtype=precision)
    weight = torch.randn(outputs, columns, device=device, dtype=precision)
    return 2.0 * rows * columns * outputs / shortest(lambda: nn.functional.linear(inputs, weight), device)


def _transformer_block(precision: torch.dtype, device: str) -> Block:
    config = WanConfig(_WIDTH, _FFN_WIDTH, 1, 16, 16, 64)
    block = Block(config, precision).to(device)
    for layer in block.modules():
        if isinstance(layer, nn.Linear):
            layer.to(precision)
    return block.requires_grad_(False)


def _block_s(block: Block, batch: int, tokens: int, precision: torch.dtype, device: str) -> float:
    x = torch.randn(batch, tokens, _WIDTH, device=device)
    text = block.cross_attn.read(torch.randn(batch, _TEXT_TOKENS, _WIDTH, device=device, dtype=precision))
    time_vector = torch.randn(batch, 1, 6, _WIDTH, device=device)
    bias = torch.zeros(batch, 1, 1, _TEXT_TOKENS, device=device)
    turn = rotation(1, 1, tokens, device)
    return shortest(lambda: block(x, time_vector, text, bias, turn), device)


def _attention(precision: torch.dtype, device: str) -> float:
    """From the same tokens as one clip and as two halves, which differ in their attention alone."""
    block = _transformer_block(precision, device)
    whole = _block_s(block, 1, 2 * _MANY, precision, device)
    halves = _block_s(block, 2, _MANY, precision, device)
    saved = 4.0 * (2 * _MANY) ** 2 * _WIDTH / 2
    # a disturbed measurement may turn the difference around
    return saved / max(whole - halves, whole / 20)


def _block(precision: torch.dtype, device: str, linear: float, attention: float) -> tuple[float, float]:
    """What a block costs at any length, and for each activation, beside its products."""
    block, beside = _transformer_block(precision, device), []
    for tokens in (_FEW, _MANY):
        products = 2.0 * tokens * (6 * _WIDTH**2 + 2 * _WIDTH * _FFN_WIDTH) + 4.0 * _TEXT_TOKENS * _WIDTH**2
        scores = 4.0 * tokens * (tokens + _TEXT_TOKENS) * _WIDTH
        seconds = _block_s(block, 1, tokens, precision, device)
        beside.append(max(0.0, seconds - products / linear - scores / attention))
    element_s = max(0.0, (beside[1] - beside[0]) / ((_MANY - _FEW) * _WIDTH))
    return max(0.0, beside[0] - _FEW * _WIDTH * element_s), element_s


def _convolution(channels: int, side: int, precision: torch.dtype, device: str) -> tuple[float, float]:
    """Operations a second of a residual block in the middle of a clip, and the first call's extra seconds."""
    block = ResidualBlock(channels, channels).to(device, precision).requires_grad_(False)
    frames, past = 4, Past()
    x = torch.randn(1, channels, frames, side, side, device=device, dtype=precision)
    first_s = elapsed(lambda: block.stream(x, past), device)
    seconds = shortest(lambda: block.stream(x, past), device)
    operations = 2 * 2.0 * channels * channels * 27 * frames * side * side
    return operations / seconds, max(0.0, first_s - seconds) / 2


def _tiny(precision: torch.dtype, device: str) -> float:
    block = MemoryBlock(_TINY_CHANNELS).to(device, precision).requires_grad_(False)
    memory: Memory = {}
    x = torch.randn(4, _TINY_CHANNELS, _TINY_SIDE, _TINY_SIDE, device=device, dtype=precision)
    operations = 2.0 * 4 * _TINY_CHANNELS**2 * 9 * 4 * _TINY_SIDE**2
    return operations / shortest(lambda: block.stream(x, memory), device)
