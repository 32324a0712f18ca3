"""Runs a transformer on a device that cannot hold all of its blocks.

The first blocks stay there. The others stay in main memory, packed and mapped as in their file, and take
turns in two places on the device: while one block computes, the next is copied. From about
F·b / (2·B) tokens on (F operations and B bytes a second, b bytes a weight) the copies cost no time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from wanrun.wan.model import WanModel

#: Tensors begin at multiples of this, as memory that a device allocates does.
_ALIGNMENT = 256
#: What a block computes of the prompts, once for all steps (``WanModel.read``), outside its turns.
_READ_ONCE = ("cross_attn.k", "cross_attn.v", "cross_attn.norm_k")


class _Held(NamedTuple):
    """A tensor in main memory: the module in its block that has it, its name there, where it begins."""

    owner: str
    name: str
    value: Tensor
    start: int


class Place:
    """Room on a device for one block at a time; the blocks' tensors are views of ``memory``."""

    def __init__(self, nbytes: int, device: torch.device) -> None:
        self.memory = torch.empty(nbytes, dtype=torch.uint8, device=device)
        self.holds: int | None = None

    def fill(self, block: int, tensors: Sequence[_Held]) -> None:
        """Have the block's tensors here when ``take`` returns."""
        _gather(tensors, self.memory)
        self.holds = block

    def take(self) -> None:
        """Wait for what ``fill`` began."""

    def release(self) -> None:
        """The block has computed; the memory may be written to again."""


class CudaPlace(Place):
    """A place that is filled on a stream of its own, through pinned memory that lets the copy go on alone.

    Only this much of a model is ever pinned; the rest stays in the system's cache of its file.
    """

    def __init__(self, nbytes: int, device: torch.device, stream: torch.cuda.Stream) -> None:
        super().__init__(nbytes, device)
        self._stream = stream
        self._pinned = torch.empty(nbytes, dtype=torch.uint8, pin_memory=True)
        self._filled, self._used = torch.cuda.Event(), torch.cuda.Event()
        self.memory.record_stream(stream)  # a copy may be under way when the model is dropped

    def fill(self, block: int, tensors: Sequence[_Held]) -> None:
        self._filled.synchronize()  # the bytes before these have left the pinned memory
        nbytes = _gather(tensors, self._pinned)
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(self._used)
            self.memory[:nbytes].copy_(self._pinned[:nbytes], non_blocking=True)
            self._filled.record()
        self.holds = block

    def take(self) -> None:
        torch.cuda.current_stream().wait_event(self._filled)

    def release(self) -> None:
        self._used.record()


class _Turns:
    """Two places that the blocks use in turn. It must not know the blocks, or nothing would drop them."""

    def __init__(self, places: Sequence[Place], blocks: Sequence[Sequence[_Held]]) -> None:
        self._places, self._blocks = places, blocks

    def begin(self, block: int, *called: object) -> None:
        """Before the block computes."""
        self._bring(block)
        self._places[block % 2].take()

    def end(self, block: int, *called: object) -> None:
        """After its work is queued: the next block, or the first one for the next step, may come."""
        self._places[block % 2].release()
        self._bring((block + 1) % len(self._blocks))

    def _bring(self, block: int) -> None:
        place = self._places[block % 2]
        if place.holds != block:
            place.fill(block, self._blocks[block])


def distribute(model: WanModel, device: str, resident_bytes: int) -> int:
    """Move ``model`` from main memory to ``device``, but only ``resident_bytes`` of its blocks.

    Returns the number of blocks that are streamed; two more of the largest need room on the device.
    """
    for name, part in model.named_children():
        if name != "blocks":
            part.to(device)
    left, streamed = resident_bytes, list[nn.Module]()
    for block in model.blocks:
        left -= block_bytes(block)
        if left < 0:
            streamed.append(block)
        else:
            block.to(device)
    if streamed:
        _stream(streamed, torch.device(device))
    return len(streamed)


def block_bytes(block: nn.Module) -> int:
    """What a block takes of a place on the device."""
    *_, last = _tensors(block)
    return last.start + _aligned(last.value.nbytes)


def _stream(blocks: Sequence[nn.Module], device: torch.device) -> None:
    nbytes = max(map(block_bytes, blocks))
    if device.type == "cuda":
        stream = torch.cuda.Stream(device)
        places: list[Place] = [CudaPlace(nbytes, device, stream) for _ in range(2)]
    else:
        places = [Place(nbytes, device) for _ in range(2)]
    turns = _Turns(places, [list(_tensors(block)) for block in blocks])
    for index, block in enumerate(blocks):
        _move_into(block, places[index % 2].memory)
        for name in _READ_ONCE:
            _visit(block.get_submodule(name), device)
        block.register_forward_pre_hook(partial(turns.begin, index))
        block.register_forward_hook(partial(turns.end, index))


def _tensors(block: nn.Module, apart: Sequence[str] = _READ_ONCE) -> Iterator[_Held]:
    """Where the tensors of ``block`` that take turns lie in a place."""
    start = 0
    for name, value in [*block.named_parameters(), *block.named_buffers()]:
        owner, _, leaf = name.rpartition(".")
        if not any(name.startswith(f"{part}.") for part in apart):
            yield _Held(owner, leaf, value.detach(), start)
            start += _aligned(value.nbytes)


def _aligned(nbytes: int) -> int:
    return -(-nbytes // _ALIGNMENT) * _ALIGNMENT


def _gather(tensors: Sequence[_Held], memory: Tensor) -> int:
    """Copy the tensors to where they begin in ``memory``; up to which byte that is."""
    end = 0
    for held in tensors:
        end = held.start + held.value.nbytes
        memory[held.start : end].copy_(held.value.contiguous().flatten().view(torch.uint8))
    return end


def _move_into(block: nn.Module, memory: Tensor) -> None:
    """Make views of ``memory`` the tensors of ``block``; what they show is its own after a ``fill``."""
    for held in list(_tensors(block)):
        view = memory[held.start : held.start + held.value.nbytes].view(held.value.dtype)
        _put(block, held, view.view(held.value.shape))


def _visit(layer: nn.Module, device: torch.device) -> None:
    """Have the layer's tensors on the device only while it computes."""
    tensors = list(_tensors(layer, apart=()))

    def come(module: nn.Module, *called: object) -> None:
        for held in tensors:
            _put(module, held, held.value.to(device))

    def leave(module: nn.Module, *called: object) -> None:
        for held in tensors:
            _put(module, held, held.value)

    layer.register_forward_pre_hook(come)
    layer.register_forward_hook(leave)


def _put(module: nn.Module, held: _Held, value: Tensor) -> None:
    owner = module.get_submodule(held.owner)
    if held.name in owner._parameters:
        setattr(owner, held.name, nn.Parameter(value, requires_grad=False))
    else:
        setattr(owner, held.name, value)
