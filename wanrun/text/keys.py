"""Names the files in which encoded prompts are kept."""

from __future__ import annotations

import hashlib
from pathlib import Path


def context_path(folder: Path, digest: str, text: str) -> Path:
    """Where ``folder`` keeps the rows that the encoder ``digest`` makes of ``text``."""
    return folder / hashlib.sha256(f"{digest}\0{text}".encode("utf-8", "surrogatepass")).hexdigest()
