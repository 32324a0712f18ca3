"""Refuses files that cannot make a video together, by their headers, before anything is copied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from wanrun.errors import InvalidRequest, WanrunError
from wanrun.gguf.header import Header, read_header
from wanrun.types import EXPERTS
from wanrun.wan.detect import Identity, expert_hint, identify

KINDS = {
    "diffusion": "a diffusion model",
    "vae": "a VAE",
    "tiny": "a tiny decoder",
    "text_encoder": "a text encoder",
    "adapter": "an adapter (LoRA)",
    "unknown": "nothing that wanrun knows",
}
_WANTED = dict.fromkeys(EXPERTS, "diffusion") | {
    "text_encoder": "text_encoder",
    "vae": "vae",
    "preview": "tiny",
    "expander": "unknown",
}
_DIMENSIONS = ("width", "layers", "ffn", "in_channels", "latent_channels", "text_width")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file offered for a role; ``origin`` is the name it had before it was in a store."""

    role: str
    path: Path
    origin: str


def check(candidates: Mapping[str, Candidate]) -> dict[str, Identity]:
    """What each file is, by role. InvalidRequest with every reason why they do not make a model."""
    identities: dict[str, Identity] = {}
    problems: list[str] = []
    for role, candidate in candidates.items():
        try:
            header = read_header(candidate.path)
        except WanrunError as error:
            problems.append(f"{role}: {error}")
            continue
        identity = identify(header)
        alone = list(_alone(candidate, header, identity))
        problems += [f"{role}: {candidate.origin}: {reason}" for reason in alone]
        if not alone:
            identities[role] = identity
    problems += _missing(candidates)
    problems += _same_file(candidates)
    problems += _experts_differ(identities)
    problems += _do_not_fit(identities)
    if problems:
        raise InvalidRequest("\n".join(problems))
    return identities


def _alone(candidate: Candidate, header: Header, identity: Identity) -> Iterator[str]:
    """What is wrong with one file for its role, whatever the others are."""
    role, wanted = candidate.role, _WANTED[candidate.role]
    if role == "expander":
        if header.format != "gguf" or identity.kind != "unknown" or identity.variant == "unknown":
            yield "an expander is a language model in GGUF, and this is not"
        return
    if identity.kind != wanted:
        yield f"this is {KINDS[identity.kind]}, not {KINDS[wanted]}"
        return
    if identity.problem is not None:
        yield identity.problem
    if role == "text_encoder" and header.format != "gguf":
        yield "the text encoder runs in llama.cpp and must be a GGUF, such as city96/umt5-xxl-encoder-gguf"
    hint = expert_hint(candidate.origin) or identity.expert
    if role in ("high_noise", "low_noise") and hint not in (None, role):
        yield f"by its name this is the {hint} expert; swap the two DIFFUSION lines or take the other file"


def _missing(candidates: Mapping[str, Candidate]) -> Iterator[str]:
    experts = [role for role in EXPERTS if role in candidates]
    if not experts:
        yield "DIFFUSION is missing: there is no model to run"
    elif len(experts) == 1 and experts != ["diffusion"]:
        yield f"{experts[0]} alone: a model of two experts needs both DIFFUSION high_noise and low_noise"
    if "text_encoder" not in candidates:
        yield "TEXT_ENCODER is missing: give a UMT5-XXL encoder in GGUF"
    if "vae" not in candidates:
        yield "VAE is missing: give the Wan2.1 VAE, or the Wan2.2 VAE for TI2V-5B"


def _same_file(candidates: Mapping[str, Candidate]) -> Iterator[str]:
    high, low = candidates.get("high_noise"), candidates.get("low_noise")
    if high and low and high.path.exists() and low.path.exists() and high.path.samefile(low.path):
        yield f"{high.origin} is given as both experts: a model has one file for each"


def _experts_differ(identities: Mapping[str, Identity]) -> Iterator[str]:
    high, low = identities.get("high_noise"), identities.get("low_noise")
    if high is None or low is None:
        return
    for dimension in _DIMENSIONS:
        one, other = getattr(high, dimension), getattr(low, dimension)
        if one != other:
            yield f"the experts differ: {dimension} {one} in high_noise, {other} in low_noise"


def _do_not_fit(identities: Mapping[str, Identity]) -> Iterator[str]:
    """Decoders and encoder against each diffusion model."""
    model = next((identities[role] for role in EXPERTS if role in identities), None)
    if model is None:
        return
    advices = {"vae": "the Wan2.1 VAE has 16, the Wan2.2 VAE 48", "preview": "taew2_1 has 16, taew2_2 48"}
    for role, advice in advices.items():
        decoder = identities.get(role)
        if decoder is not None and decoder.latent_channels != model.latent_channels:
            yield (
                f"{role}: {decoder.variant} decodes {decoder.latent_channels} latent channels, and the model "
                f"makes {model.latent_channels} ({advice})"
            )
    encoder = identities.get("text_encoder")
    if encoder is not None and encoder.width != model.text_width:
        yield f"text_encoder: its rows are {encoder.width} wide, and the model reads {model.text_width}"
