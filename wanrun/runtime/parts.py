"""Reads from the headers of a bundle's files what the planner needs to know of them; no weights, no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import prod
from typing import NamedTuple

from wanrun.gguf.header import Header, TensorInfo, read_header
from wanrun.gguf.types import tensor_type
from wanrun.runtime.shapes import (
    ITEM_BYTES,
    Autoencoder,
    Parts,
    Stored,
    TextEncoder,
    TinyAutoencoder,
    Transformer,
)
from wanrun.types import Bundle, Component
from wanrun.wan.config import config_from_shapes
from wanrun.wan.detect import identify
from wanrun.wan.mixes import choose, find_mix
from wanrun.wan.names import canonical

#: Parts of the transformer that are float32 in every precision, as ``wanrun.wan.load`` keeps them.
_FLOAT32 = ("time_embedding.", "time_projection.", "head.")
_STORED_AS = {"fp32": "F32", "bf16": "BF16"}


class _Use(NamedTuple):
    """How one tensor is held: its storage type, elements, bytes, offset, and the precision it is used in."""

    kind: str
    elements: int
    nbytes: int
    offset: int
    wanted: str


def read_parts(
    bundle: Bundle, encoder: TextEncoder, decoder: str, precision: str, mix: str | None = None
) -> Parts:
    """The bundle's parts with the decoder ``vae`` or ``tiny`` (any other plugin counts as ``vae``).

    Its ``encoder`` was read already. With ``mix`` the experts are taken to be quantised so. Raises as
    ``read_header`` for damaged files.
    """
    experts = tuple(
        with_adapters(
            read_transformer(role, read_header(component.path), precision, mix),
            [read_header(each.component.path) for each in bundle.adapters if each.serves(role)],
            precision,
        )
        for role, component in bundle.experts.items()
    )
    role = "preview" if decoder == "tiny" else "vae"
    return Parts(encoder, experts, read_decoder(read_header(bundle.components[role].path), precision))


def read_transformer(role: str, header: Header, precision: str, mix: str | None = None) -> Transformer:
    """The expert that ``header`` describes, as ``wanrun.wan.load.load_transformer`` will hold it."""
    names = canonical(header.tensors)
    infos = {name: header.tensors[stored] for name, stored in names.items()}
    config = config_from_shapes({name: info.shape for name, info in infos.items()})
    packed: Counter[str] = Counter()
    plain, largest, matrices, packed_bytes, blocks_bytes = [], 0, 0, 0, 0
    for name, info in infos.items():
        kind, elements, nbytes = _stored_as(name, info, mix)
        held = nbytes
        if tensor_type(kind).quantised and len(info.shape) == 2:
            packed[kind] += elements
            matrices, packed_bytes = matrices + 1, packed_bytes + nbytes
            largest = max(largest, elements * ITEM_BYTES["fp32" if name.startswith(_FLOAT32) else precision])
        else:
            wanted = precision if _is_linear(name, infos) else "fp32"
            plain.append(_Use(kind, elements, nbytes, info.offset, wanted))
            held = elements * ITEM_BYTES[wanted]
        blocks_bytes += held if name.startswith("blocks.") else 0
    stored = _stored(plain)
    return Transformer(
        role,
        config.width,
        config.ffn_width,
        config.layers,
        config.out_channels,
        Stored(stored.file_bytes + packed_bytes, stored.copied_bytes, stored.kept_bytes + packed_bytes),
        dict(packed),
        matrices,
        largest,
        blocks_bytes=blocks_bytes,
    )


def with_adapters(model: Transformer, adapters: Iterable[Header], precision: str) -> Transformer:
    """``model`` with the adapters of these headers, whose matrices stand beside it in ``precision``."""
    infos = [info for header in adapters for info in header.tensors.values()]
    elements = sum(prod(info.shape) for info in infos)
    stored = model.stored
    return replace(
        model,
        stored=Stored(
            stored.file_bytes + sum(info.nbytes for info in infos),
            stored.copied_bytes + elements * ITEM_BYTES[precision],
            stored.kept_bytes,
        ),
        adapter_elements=elements,
        blocks_bytes=model.blocks_bytes + elements * ITEM_BYTES[precision],
    )


def read_encoder(component: Component) -> TextEncoder:
    """The text encoder of a GGUF file."""
    header = read_header(component.path)
    identity = identify(header)
    blocks = [
        info for name, info in header.tensors.items() if name.startswith("enc.blk.") and len(info.shape) == 2
    ]
    kinds: Counter[str] = Counter()
    for info in blocks:
        kinds[info.type] += prod(info.shape)
    table = header.tensors.get("token_embd.weight")
    return TextEncoder(
        identity.width or 0,
        identity.ffn or 0,
        identity.heads or 0,
        table.shape[0] if table is not None and table.shape else 0,
        kinds.most_common(1)[0][0] if kinds else "F16",
        kinds.total(),
        Stored(component.size, 0, component.size),
    )


def read_decoder(header: Header, precision: str) -> Autoencoder | TinyAutoencoder:
    """The full or the tiny decoder that ``header`` describes; both are loaded whole, with their encoder."""
    identity = identify(header)
    uses = [
        _Use(info.type, prod(info.shape), info.nbytes, info.offset, "fp32" if "gamma" in name else precision)
        for name, info in header.tensors.items()
    ]
    channels = identity.latent_channels or 16
    if identity.kind == "tiny":
        pixels = header.tensors["decoder.22.weight"].shape[0]
        return TinyAutoencoder(channels, 1 if pixels == 3 else 2, _stored(uses))
    patch = 2 if identity.variant.endswith("2.2") else 1
    return Autoencoder(identity.width or 0, channels, patch, _stored(uses))


def _stored_as(name: str, info: TensorInfo, mix: str | None) -> tuple[str, int, int]:
    """Type, elements and bytes of a tensor, as it is or as ``mix`` would make it."""
    elements = prod(info.shape)
    kind = choose(find_mix(mix), name, info.shape) if mix else None
    if kind is None:
        return info.type, elements, info.nbytes
    return kind, elements, tensor_type(kind).nbytes(elements)


def _is_linear(name: str, infos: Mapping[str, TensorInfo]) -> bool:
    """Whether the tensor belongs to a linear layer that computes in the run's precision."""
    matrix = infos.get(f"{name.rpartition('.')[0]}.weight")
    return matrix is not None and len(matrix.shape) == 2 and not name.startswith(_FLOAT32)


def _stored(uses: Iterable[_Use]) -> Stored:
    """What these tensors take, each kept where it lies in the file if it already is what is wanted."""
    file_bytes = copied = kept = 0
    for use in uses:
        file_bytes += use.nbytes
        item = ITEM_BYTES[use.wanted]
        if use.kind == _STORED_AS[use.wanted] and use.offset % item == 0:
            kept += use.nbytes
        else:
            copied += use.elements * item
    return Stored(file_bytes, copied, kept)
