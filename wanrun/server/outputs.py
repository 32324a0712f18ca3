"""The folder of finished videos, in which only those of completed jobs stay."""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from wanrun.store.durable import make_folder, store_errors, sync_folder

#: What no job knows of is kept this long: its job may be about to be completed.
_GRACE_S = 3600.0


@dataclass(frozen=True, slots=True)
class Outputs:
    """Videos by name in ``folder``."""

    folder: Path

    def path(self, name: str) -> Path:
        return self.folder / name

    def prepare(self) -> None:
        """Make the folder; raises StoreError."""
        with store_errors("cannot make the folder of videos"):
            make_folder(self.folder)

    def seal(self, name: str) -> int:
        """Make a video that was renamed into place stay there through a crash; its size in bytes."""
        with store_errors(f"cannot keep {name}"):
            sync_folder(self.folder)
            return self.path(name).stat().st_size

    def remove(self, name: str | None) -> None:
        """Delete a video that no job names any more."""
        if name is not None:
            with suppress(FileNotFoundError), store_errors(f"cannot remove {name}"):
                self.path(name).unlink(missing_ok=True)

    def sweep(self, known: Collection[str], grace_s: float = _GRACE_S) -> int:
        """Delete what is in no job's name: half-written videos of killed workers, and those of jobs whose
        deletion was interrupted. How many."""
        swept = 0
        with suppress(FileNotFoundError):
            for path in sorted(self.folder.iterdir()):
                if path.name in known:
                    continue
                with suppress(OSError):
                    if path.stat().st_mtime < time.time() - grace_s:
                        path.unlink()
                        swept += 1
        return swept
