"""Finds the checkpoint of one network in a folder as models are published.

The layouts are those of Wan-AI's repositories (``high_noise_model/``, ``low_noise_model/``, or the
transformer at the top) and of diffusers (``transformer/``, ``transformer_2/``, ``vae/``,
``text_encoder/``), and of their tokenisers and licences.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from wanrun.errors import InvalidRequest
from wanrun.gguf.checkpoint import INDEX

_MAX_CARD_BYTES = 1 << 20
_TOKENIZERS = ("spiece.model", "tokenizer/spiece.model", "google/umt5-xxl/spiece.model")


def locate(source: Path, role: str | None) -> Path:
    """The file or folder in ``source`` that has the network of ``role``.

    InvalidRequest when a folder has several and no role says which, or not the one that is asked for.
    """
    parts = _parts(source) if source.is_dir() else {}
    if role is not None and role in parts:
        return parts[role]
    if not source.is_dir() or _holds_network(source):
        return source
    if role is None and len(parts) == 1:
        return next(iter(parts.values()))
    if not parts:
        return source  # opening it says what it holds instead
    asked = "say which with --role" if role is None else f"not {role}"
    raise InvalidRequest(f"{source} holds {', '.join(parts)}; {asked}")


def expert_of(source: Path, place: Path) -> str | None:
    """Which expert a folder's name makes of ``place``."""
    roles = {path: role for role, path in _parts(source).items()} if source.is_dir() else {}
    return roles.get(place) if roles.get(place) in ("high_noise", "low_noise") else None


def find_tokenizer(place: Path) -> Path | None:
    """The sentencepiece model that lies with the text encoder at ``place``."""
    folder = place if place.is_dir() else place.parent
    near = (parent / name for parent in (folder, folder.parent) for name in _TOKENIZERS)
    return next((path for path in near if path.is_file()), None)


def find_license(place: Path) -> str | None:
    """What the model card beside or above ``place`` says in its front matter."""
    folder = place if place.is_dir() else place.parent
    for card in (folder / "README.md", folder.parent / "README.md"):
        if card.is_file() and card.stat().st_size <= _MAX_CARD_BYTES:
            front = card.read_text(encoding="utf-8", errors="replace").split("---\n", 2)
            said = _front_matter(front[1]) if len(front) == 3 and not front[0].strip() else {}
            if isinstance(said.get("license"), str):
                return str(said["license"])
    return None


def _front_matter(text: str) -> Mapping[str, object]:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError:
        return {}
    return content if isinstance(content, dict) else {}


def _holds_network(folder: Path) -> bool:
    return any(entry.name.endswith((INDEX, ".safetensors", ".gguf")) for entry in folder.iterdir())


def _parts(folder: Path) -> dict[str, Path]:
    names = {"vae": "vae", "text_encoder": "text_encoder"}
    if (folder / "transformer_2").is_dir():
        names |= {"high_noise": "transformer", "low_noise": "transformer_2"}
    else:
        names |= {"diffusion": "transformer"}
    found = {role: folder / name for role, name in names.items() if (folder / name).is_dir()}
    for role in ("high_noise", "low_noise"):
        if (folder / f"{role}_model").is_dir():
            found[role] = folder / f"{role}_model"
    return found
