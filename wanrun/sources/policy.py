"""How patient a download is, and how it is cut up."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Policy:
    """How patient a download is, in seconds, and how it is cut up, in bytes."""

    connect_s: float = 15
    #: A connection that brings fewer than ``slowest`` bytes a second for this long is cut.
    stall_s: float = 30
    slowest: int = 1 << 10
    #: Failures in a row before giving up; ``gain`` bytes more start a new row.
    tries: int = 6
    gain: int = 1 << 16
    #: The first pause after a failure, doubled each time; and the longest, also if the server asks for it.
    pause_s: float = 1
    longest_pause_s: float = 120
    redirects: int = 5
    workers: int = 4
    piece: int = 1 << 26
    #: The longest file that is taken from a server which does not say its length.
    unannounced: int = 1 << 30
    save_s: float = 2

    def pause(self, failures: int) -> float:
        """Seconds to wait after the n-th failure in a row, with jitter so that many clients spread out."""
        return min(
            self.pause_s * 2.0 ** min(failures - 1, 16) * random.uniform(0.5, 1.5), self.longest_pause_s
        )
