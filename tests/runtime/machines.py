"""A machine whose numbers are fixed, so that what is planned for it can be counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from wanrun.runtime import machine
from wanrun.runtime.machine import Machine, Rates

BF16 = Rates(2e11, 1e11, 0.0, 0.0, {"64": 1e11, "192": 2e11}, 1e11, 0.0)
FP32 = Rates(1e11, 1e11, 0.0, 0.0, {"64": 5e10, "192": 1e11}, 5e10, 0.0)
MACHINE = Machine(
    device="cpu",
    precision="bf16",
    import_bytes=160e6,
    import_s=1.0,
    network_bytes=240e6,
    network_s=0.5,
    encoder_bytes=30e6,
    encoder_s=0.2,
    rates={"fp32": FP32, "bf16": BF16},
    unpack={"Q8_0": 3e9, "Q4_K": 2e9},
    matrix_s=0.0,
    encode={"F16": 1e11, "Q8_0": 1.5e11},
    write=2e7,
    device_bytes=0.0,
    link=0.0,
)


def keep(home: Path, device: str = "auto") -> None:
    """Make ``home`` that of a user whose machine was measured already."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANRUN_HOME", str(home))
        machine.save(MACHINE, device)
