"""Converts a published checkpoint to one file of ours: original names, and types that every tool reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from wanrun.convert.digest import sha256_of
from wanrun.convert.locate import expert_of, find_license, locate
from wanrun.convert.umt5 import encoder_outputs
from wanrun.errors import InvalidRequest
from wanrun.gguf.checkpoint import Checkpoint, open_checkpoint
from wanrun.gguf.layout import TensorInfo
from wanrun.gguf.requantize import Output, requantize
from wanrun.wan.autoencoder import WanVAE, vae_config_from_shapes
from wanrun.wan.config import config_from_shapes
from wanrun.wan.detect import ROLE, Identity, identify
from wanrun.wan.load import check_shapes
from wanrun.wan.mixes import MIXES, plain
from wanrun.wan.model import WanModel
from wanrun.wan.names import canonical
from wanrun.wan.tiny import TinyVAE, tiny_config_from_shapes

if TYPE_CHECKING:
    from wanrun.types import Progress

Shapes = Mapping[str, tuple[int, ...]]
#: Tensors of a file, and metadata besides those of every file.
Plan = tuple[list[Output], dict[str, object]]

TYPES = ("F32", "F16", "BF16")
#: Text encoders may be smaller at once: llama.cpp multiplies these without a loss that shows.
ENCODER_TYPES = (*TYPES, "Q8_0")
ROLES = ("high_noise", "low_noise", "diffusion", "vae", "tiny", "text_encoder")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the new file shall be; None leaves it to the source.

    ``type`` is that of the matrices and convolutions, ``role`` which network of a folder it is,
    ``tokenizer`` the text encoder's sentencepiece model, ``license`` an SPDX identifier.
    """

    type: str | None = None
    role: str | None = None
    tokenizer: Path | None = None
    license: str | None = None


def convert(source: Path, target: Path, progress: Progress, wanted: Wanted = Wanted()) -> None:
    """Write the network in ``source`` to ``target``: GGUF, or safetensors if it is called so and no encoder.

    ``source`` is a file, an index of shards, a folder of them, or a folder of several networks of which
    ``wanted.role`` picks one. Raises as ``open_checkpoint`` and ``requantize`` do, FormatError for tensors
    that are missing or misshapen, and InvalidRequest for what cannot be converted as it is wanted.
    """
    place = locate(source, wanted.role)
    with open_checkpoint(place) as checkpoint:
        identity = identify(checkpoint.header)
        _check(source, identity, wanted)
        if identity.kind == "text_encoder":
            if target.suffix == ".safetensors":
                raise InvalidRequest("a text encoder is converted to GGUF, which llama.cpp loads")
            outputs, own = encoder_outputs(
                checkpoint, identity, wanted.type or "F16", wanted.tokenizer, place
            )
        else:
            outputs, own = _outputs(checkpoint, identity, wanted.type)
        metadata = own | _provenance(checkpoint, identity, source, place, wanted)
        digests = sha256_of(checkpoint.files, progress)
        # lines as sha256sum's; not an array of strings, which stable-diffusion.cpp cannot read
        metadata["wanrun.source.sha256"] = "\n".join(
            f"{digest}  {file.name}" for digest, file in zip(digests, checkpoint.files, strict=True)
        )
        requantize(checkpoint, target, outputs, metadata, _renamed(progress))


def _renamed(progress: Progress) -> Progress:
    return lambda phase, done, total: progress("converting", done, total)


def _check(source: Path, identity: Identity, wanted: Wanted) -> None:
    if identity.kind not in ("diffusion", "vae", "tiny", "text_encoder"):
        raise InvalidRequest(
            f"{source} is {identity.kind} ({identity.variant}); "
            "transformers, VAEs and UMT5 encoders are converted"
        )
    kind = "diffusion" if wanted.role in ("high_noise", "low_noise") else wanted.role
    if kind is not None and kind != identity.kind:
        raise InvalidRequest(
            f"{source} is {identity.kind} ({identity.variant}), which cannot be {wanted.role}"
        )
    types = ENCODER_TYPES if identity.kind == "text_encoder" else TYPES
    if wanted.type is not None and wanted.type not in types:
        raise InvalidRequest(
            f"{identity.kind} is converted to {', '.join(types)}, not {wanted.type[:20]}; "
            "'wanrun quantize' makes smaller transformers of the result"
        )


def _outputs(checkpoint: Checkpoint, identity: Identity, asked: str | None) -> Plan:
    names = canonical(checkpoint.header.tensors)
    infos = {name: checkpoint.header.tensors[stored] for name, stored in names.items()}
    shapes: dict[str, tuple[int, ...]] = {name: info.shape for name, info in infos.items()}
    with torch.device("meta"):
        check_shapes(_NETWORKS[identity.kind](_whole(shapes)), _whole(shapes), checkpoint.header.path)
    outputs = [
        Output(name, _type(identity, name, infos[name], asked), stored) for name, stored in names.items()
    ]
    kinds = Counter[str]()
    for output in outputs:
        kinds[output.kind] += infos[output.name].nbytes
    file_type = MIXES[kinds.most_common(1)[0][0]].file_type
    return outputs, {"general.file_type": file_type, "general.architecture": _ARCHITECTURES[identity.kind]}


def _type(identity: Identity, name: str, info: TensorInfo, asked: str | None) -> str:
    """What is asked for, else the tensor's own; but a transformer in F32 was trained in BF16."""
    transformer = identity.kind == "diffusion"
    bears = len(info.shape) == 2 if transformer else len(info.shape) >= 4
    if not bears or info.type in _COUNTS or name.endswith(("modulation", "gamma")):
        return plain(name, info.shape, info.type)
    own = "BF16" if transformer and info.type == "F32" else plain(name, (1, 1), info.type)
    return asked or own


_COUNTS = ("I8", "I16", "I32", "I64")
_ARCHITECTURES = {"diffusion": "wan", "vae": "wan_vae", "tiny": "taehv"}
_NETWORKS: Mapping[str, Callable[[Shapes], nn.Module]] = {
    "diffusion": lambda shapes: WanModel(config_from_shapes(shapes)),
    "vae": lambda shapes: WanVAE(vae_config_from_shapes(shapes)),
    "tiny": lambda shapes: TinyVAE(tiny_config_from_shapes(shapes)),
}


def _whole(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """With the leading 1 that some tools drop from modulations."""
    return {
        name: (1, *shape) if name.endswith("modulation") and len(shape) == 2 else shape
        for name, shape in shapes.items()
    }


def _provenance(
    checkpoint: Checkpoint, identity: Identity, source: Path, place: Path, wanted: Wanted
) -> dict[str, object]:
    header = checkpoint.header
    role = wanted.role if wanted.role in ("high_noise", "low_noise") else None
    role = role or expert_of(source, place) or identity.expert
    said = (header.metadata.get(key) for key in ("general.license", "modelspec.license", "license"))
    terms = (
        wanted.license or find_license(place) or next((text for text in said if isinstance(text, str)), None)
    )
    known: dict[str, object | None] = {
        "general.name": f"{identity.variant} {role or ''}".strip(),
        "general.license": terms,
        "general.quantization_version": 2,
        "wanrun.variant": identity.variant,
        ROLE: role if identity.kind == "diffusion" else None,
    }
    return {key: value for key, value in known.items() if value is not None}
