"""Local text-to-video: pull a Wan bundle, run a prompt, share it as a Modelfile."""

from __future__ import annotations

__version__ = "0.1.0"
