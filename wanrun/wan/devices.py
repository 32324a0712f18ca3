"""Which device a run computes on, and in which precision."""

from __future__ import annotations

import torch

from wanrun.errors import InvalidRequest

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def pick_device(name: str) -> str:
    """``auto`` is the first accelerator there is; any other name is checked.

    Raises InvalidRequest for a device that this machine does not have.
    """
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return "cpu" if accelerator is None else accelerator.type
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InvalidRequest(f"device {name!r} cannot be used here ({reason}); try auto or cpu") from error
    return name


def pick_dtype(precision: str, device: str) -> torch.dtype:
    """``auto`` is bf16 wherever the hardware multiplies it; a CPU that only emulates it is faster in fp32.

    ``int8`` has the dtype of ``auto`` for all that it does not multiply in 8 bits.
    """
    if precision in ("auto", "int8"):
        features = torch.cpu.get_capabilities()
        emulated = device == "cpu" and not (features.get("avx512_bf16") or features.get("amx_bf16"))
        return torch.float32 if emulated else torch.bfloat16
    if precision not in _DTYPES:
        known = ", ".join((*_DTYPES, "int8"))
        raise InvalidRequest(f"precision {precision!r} is not known; there are auto, {known}")
    return _DTYPES[precision]
