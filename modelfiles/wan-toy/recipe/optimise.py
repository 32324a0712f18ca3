"""How every part of wan-toy is optimised: Muon for matrices and convolutions, AdamW for the rest.

Muon (Jordan, https://kellerjordan.github.io/posts/muon) makes each step of a matrix near orthogonal. On
this model it needs about half of AdamW's steps. A convolution is a matrix of (outputs, inputs·taps).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

_SMALLEST = 16  # rows and columns: what is narrower has little to make orthogonal


def narrow(device: str) -> torch.autocast:
    """A context in which products are made in bfloat16, where the device does that natively."""
    native = device != "cpu" or torch.cpu.get_capabilities().get("avx512_bf16", False)
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=native)


class Optimiser:
    """Both optimisers behind one step; rates are per unit of update size (RMS), the same for both."""

    def __init__(self, module: nn.Module, rate: float) -> None:
        trained = [value for value in module.parameters() if value.requires_grad]
        self._weights = [value for value in trained if value.ndim > 1 and _is_matrix(value)]
        matrices = {id(value) for value in self._weights}
        self._views = [nn.Parameter(_flat(value.detach(), value)) for value in self._weights]
        self._all, self._rate = trained, rate
        self._muon = torch.optim.Muon(self._views, lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
        self._adamw = torch.optim.AdamW(
            [value for value in trained if id(value) not in matrices],
            lr=rate, betas=(0.9, 0.98), weight_decay=0.0,
        )  # fmt: skip

    def step(self, loss: Tensor, share: float) -> float:
        """One step down the loss's gradient at ``share`` of the peak rate; returns the gradient's norm."""
        for value in self._all:
            value.grad = None
        loss.backward()
        norm = float(torch.nn.utils.clip_grad_norm_(self._all, 1.0))
        if not math.isfinite(norm):
            return norm  # a step that would destroy the weights is left out
        for view, weight in zip(self._views, self._weights, strict=True):
            view.grad = None if weight.grad is None else _flat(weight.grad, weight)
        for optimiser in (self._muon, self._adamw):
            for group in optimiser.param_groups:
                group["lr"] = self._rate * share
            optimiser.step()
        return norm

    def state_dict(self) -> dict[str, Any]:
        return {"muon": self._muon.state_dict(), "adamw": self._adamw.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._muon.load_state_dict(state["muon"])
        self._adamw.load_state_dict(state["adamw"])


def _is_matrix(value: Tensor) -> bool:
    return min(value.shape[0], value[0].numel()) >= _SMALLEST


def _flat(value: Tensor, weight: Tensor) -> Tensor:
    """(outputs, the rest) in the order in which ``weight`` lies in memory, so that its own is a view."""
    return value.flatten(1) if weight.is_contiguous() else value.movedim(1, -1).flatten(1)


def cosine(step: int, steps: int, warm: int = 50) -> float:
    """Share of the peak rate: a linear rise, then a cosine down to 2 %."""
    return min(1.0, (step + 1) / warm) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
