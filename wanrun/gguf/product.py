"""Multiplies by packed weights with ggml's own CPU routines, which never unpack them.

Activations are rounded to 8 bits in blocks (Q8_K for the K types), about 0.7 % of the result. On one Zen 4
core, 512 tokens by 1536 × 1536, GF/s of ggml, and of unpacking to bfloat16 and oneDNN's product: Q4_K 233
and 187, Q5_K 223 and 182, Q6_K 185 and 159, Q8_0 107 and 185.

Everything goes through exported functions: no struct of ggml's is read. ggml stops the whole process where an
address or a shape does not suit it, so ``problem`` must be asked first.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from wanrun.errors import FormatError, WanrunError
from wanrun.gguf import ggml
from wanrun.gguf.types import tensor_type

#: What ggml wants tensors' addresses to divide by (TENSOR_ALIGNMENT in ggml-impl.h).
_ALIGNMENT = 32
#: A thread takes at least this many tokens: fewer would read the weights more often than they use them.
_THREAD_TOKENS = 64
_FLOAT32 = 0
_SUCCESS = 0


class _Parameters(ctypes.Structure):
    """``struct ggml_init_params``, which ``ggml_init`` takes by value."""

    _fields_ = (
        ("mem_size", ctypes.c_size_t),
        ("mem_buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    )


class _Library(NamedTuple):
    base: ctypes.CDLL
    cpu: ctypes.CDLL


_POINTER, _SIZE, _INT, _BOOL = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_bool
#: Functions with the types of their arguments and of their result.
_Functions: TypeAlias = Mapping[str, tuple[tuple[Any, ...], Any]]
_BASE: _Functions = {
    "ggml_tensor_overhead": ((), _SIZE),
    "ggml_graph_overhead_custom": ((_SIZE, _BOOL), _SIZE),
    "ggml_init": ((_Parameters,), _POINTER),
    "ggml_free": ((_POINTER,), None),
    "ggml_new_tensor_2d": ((_POINTER, _INT, ctypes.c_int64, ctypes.c_int64), _POINTER),
    "ggml_mul_mat": ((_POINTER, _POINTER, _POINTER), _POINTER),
    "ggml_new_graph_custom": ((_POINTER, _SIZE, _BOOL), _POINTER),
    "ggml_build_forward_expand": ((_POINTER, _POINTER), None),
    "ggml_backend_cpu_buffer_from_ptr": ((_POINTER, _SIZE), _POINTER),
    "ggml_backend_tensor_alloc": ((_POINTER, _POINTER, _POINTER), _INT),
    "ggml_backend_graph_compute": ((_POINTER, _POINTER), _INT),
    "ggml_backend_buffer_free": ((_POINTER,), None),
    "ggml_backend_free": ((_POINTER,), None),
}
_CPU: _Functions = {
    "ggml_backend_cpu_init": ((), _POINTER),
    "ggml_backend_cpu_set_n_threads": ((_POINTER, _INT), None),
}
_GRAPH_NODES = 8


@cache
def _library() -> _Library:
    found = _Library(ggml.library(), ggml.library("ggml-cpu"))
    for library, functions in zip(found, (_BASE, _CPU), strict=True):
        for name, (arguments, result) in functions.items():
            try:
                function = getattr(library, name)  # kept by the library object, unlike library[name]
            except AttributeError:
                raise WanrunError(f"ggml has no function {name}; another llama-cpp-python may") from None
            function.argtypes, function.restype = arguments, result
    return found


def problem(kind: str, packed: Tensor, shape: tuple[int, ...]) -> str | None:
    """Why ggml cannot multiply by these (out, in) weights of ``kind``; None when it can."""
    try:
        _library()
        ggml.row_function(kind)
    except (WanrunError, FormatError) as error:
        return str(error)
    spec = tensor_type(kind)
    if not spec.quantised or shape[1] % spec.block or 0 in shape:
        return f"{kind} rows of {shape[1]} are not whole blocks of a quantised type"
    if packed.device.type != "cpu" or packed.data_ptr() % _ALIGNMENT or not packed.is_contiguous():
        return f"the weights do not lie in memory at a multiple of {_ALIGNMENT} bytes"
    return None


def multiply(kind: str, packed: Tensor, shape: tuple[int, ...], inputs: Tensor) -> Tensor:
    """``inputs`` (tokens, in) float32 times the transpose of the (out, in) weights: (tokens, out) float32.

    Tokens are shared out over as many threads as torch uses and each is computed by itself: the result does
    not depend on the number of threads. The weights must have no ``problem``.
    """
    inputs = inputs.contiguous()
    if inputs.data_ptr() % _ALIGNMENT:
        inputs = inputs.clone()
    out = torch.empty(len(inputs), shape[0])
    threads = max(1, min(torch.get_num_threads(), len(inputs) // _THREAD_TOKENS))
    # each thread's first row lies at a multiple of 16 floats, hence aligned as the whole is
    step = -(-len(inputs) // (16 * threads)) * 16

    def part(span: tuple[int, int]) -> None:
        _multiply(kind, packed, shape, *(tensor.narrow(0, *span) for tensor in (inputs, out)))

    ggml.run_all(part, [(at, min(step, len(inputs) - at)) for at in range(0, len(inputs), max(step, 1))])
    return out


def _multiply(kind: str, packed: Tensor, shape: tuple[int, ...], inputs: Tensor, out: Tensor) -> None:
    base, cpu = _library()
    number = tensor_type(kind).number
    overhead = 3 * base.ggml_tensor_overhead() + base.ggml_graph_overhead_custom(_GRAPH_NODES, False)
    with ExitStack() as freed:
        context = base.ggml_init(_Parameters(overhead + 1024, None, True))
        freed.callback(base.ggml_free, context)
        weights = base.ggml_new_tensor_2d(context, number, shape[1], shape[0])
        activations = base.ggml_new_tensor_2d(context, _FLOAT32, shape[1], len(inputs))
        products = base.ggml_mul_mat(context, weights, activations)
        for tensor, memory in ((weights, packed), (activations, inputs), (products, out)):
            buffer = base.ggml_backend_cpu_buffer_from_ptr(memory.data_ptr(), memory.nbytes)
            freed.callback(base.ggml_backend_buffer_free, buffer)
            base.ggml_backend_tensor_alloc(buffer, tensor, memory.data_ptr())
        graph = base.ggml_new_graph_custom(context, _GRAPH_NODES, False)
        base.ggml_build_forward_expand(graph, products)
        backend = cpu.ggml_backend_cpu_init()
        freed.callback(base.ggml_backend_free, backend)
        # with one thread ggml starts none of its own, which would spin beside torch's
        cpu.ggml_backend_cpu_set_n_threads(backend, 1)
        if base.ggml_backend_graph_compute(backend, graph) != _SUCCESS:
            raise WanrunError(f"ggml could not multiply by a {kind} matrix of shape {shape}; is memory full?")
