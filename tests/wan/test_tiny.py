"""The tiny autoencoder against its definition, written for whole clips at once."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tests.wan.conftest import relative_error
from wanrun.errors import FormatError
from wanrun.wan.tiny import TinyConfig, TinyVAE, tiny_config_from_shapes

State = dict[str, torch.Tensor]


def _conv(state: State, name: str, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
    weight = state[f"{name}.weight"]
    return F.conv2d(x, weight, state.get(f"{name}.bias"), stride=stride, padding=weight.shape[-1] // 2)


def _memory_block(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    """``x`` holds all frames: the memory is the same clip one frame later."""
    y = torch.cat([x, F.pad(x, (0, 0, 0, 0, 0, 0, 1, 0))[:-1]], dim=1)
    y = F.relu(_conv(state, f"{name}.conv.0", y))
    y = F.relu(_conv(state, f"{name}.conv.2", y))
    return F.relu(_conv(state, f"{name}.conv.4", y) + x)


def _decode(state: State, latents: torch.Tensor, patch: int) -> torch.Tensor:
    x = F.relu(_conv(state, "decoder.1", torch.tanh(latents / 3) * 3))
    for first, grow in ((3, 1), (9, 2), (15, 2)):
        for index in range(first, first + 3):
            x = _memory_block(state, f"decoder.{index}", x)
        x = F.interpolate(x, scale_factor=2)
        x = _conv(state, f"decoder.{first + 4}.conv", x)
        x = x.reshape(len(x) * grow, -1, *x.shape[2:])
        x = _conv(state, f"decoder.{first + 5}", x)
    x = _conv(state, "decoder.22", F.relu(x))
    return F.pixel_shuffle(x, patch).clamp(0, 1)[3:]


def _encode(state: State, clip: torch.Tensor, patch: int) -> torch.Tensor:
    clip = torch.cat([clip, clip[-1:].expand(-len(clip) % 4, -1, -1, -1)])
    x = F.relu(_conv(state, "encoder.0", F.pixel_unshuffle(clip, patch)))
    for first, pool in ((2, 2), (7, 2), (12, 1)):
        x = _conv(state, f"encoder.{first}.conv", x.reshape(len(x) // pool, -1, *x.shape[2:]))
        x = _conv(state, f"encoder.{first + 1}", x, stride=2)
        for index in range(first + 2, first + 5):
            x = _memory_block(state, f"encoder.{index}", x)
    return _conv(state, "encoder.17", x)


@pytest.mark.parametrize("config", [TinyConfig(16, 1), TinyConfig(48, 2)], ids=["taew2_1", "taew2_2"])
def test_streaming_equals_the_definition(config: TinyConfig, device: str) -> None:
    torch.manual_seed(0)
    tiny = TinyVAE(config)
    state = {name: value.clone() for name, value in tiny.state_dict().items()}
    assert tiny_config_from_shapes({name: tuple(value.shape) for name, value in state.items()}) == config
    tiny.to(device)
    latents = 3 * torch.randn(4, config.latent_channels, 3, 5)
    frames = torch.stack(list(tiny.decode_stream(latents.transpose(0, 1).to(device)))).cpu()
    assert frames.shape == (13, 3, 24 * config.patch, 40 * config.patch)
    assert relative_error(frames, _decode(state, latents, config.patch)) <= 1e-5
    clip = torch.rand(9, 3, 16 * config.patch, 24 * config.patch)
    encoded = tiny.encode_stream(clip.to(device)).cpu()
    assert encoded.shape == (config.latent_channels, 3, 2, 3)
    assert relative_error(encoded.transpose(0, 1), _encode(state, clip, config.patch)) <= 1e-5


def test_another_file_is_refused() -> None:
    with pytest.raises(FormatError, match="not a tiny Wan autoencoder"):
        tiny_config_from_shapes({"decoder.1.weight": (256, 16, 3, 3)})
