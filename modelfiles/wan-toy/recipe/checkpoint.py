"""Training state on disk: written whole or not at all, so that an interrupted run continues."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class Run:
    """A training run: where its state lies, how many steps it takes, on which device."""

    folder: Path
    name: str
    steps: int
    device: str
    save_every_s: float = 60.0

    @property
    def path(self) -> Path:
        return self.folder / f"{self.name}.pt"

    def restore(self, parts: dict[str, Any]) -> int:
        """Load every part's state; returns the step to continue from."""
        if not self.path.is_file():
            return 0
        state = torch.load(self.path, map_location=self.device, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        return int(state["step"])

    def save(self, parts: dict[str, Any], step: int) -> None:
        """Write every part's state in one atomic step."""
        self.folder.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(".part")
        torch.save({"step": step, **{name: part.state_dict() for name, part in parts.items()}}, fresh)
        fresh.replace(self.path)

    def loop(self, parts: dict[str, Any]) -> Iterator[int]:
        """Steps from the last saved one, saving now and then and at the end."""
        saved = time.monotonic()
        for step in range(self.restore(parts), self.steps):
            yield step
            if time.monotonic() - saved > self.save_every_s:
                self.save(parts, step + 1)
                saved = time.monotonic()
        self.save(parts, self.steps)

    def log(self, step: int, **values: float) -> None:
        """One line of the training log, a CSV per run."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{self.name}.csv"
        if not path.exists():
            path.write_text("step,seconds," + ",".join(values) + "\n")
        with path.open("a") as file:
            numbers = ",".join(f"{value:.6g}" for value in values.values())
            file.write(f"{step},{time.time():.0f},{numbers}\n")
