"""Operations, counted by hand from the published models' dimensions."""

from __future__ import annotations

import pytest

from wanrun.runtime import work
from wanrun.runtime.shapes import Autoencoder, Stored, TextEncoder, TinyAutoencoder, Transformer

#: Width, feed-forward width, layers, and the stride of the VAE in pixels.
MODELS = {"1.3B": (1536, 8960, 30, 8), "5B": (3072, 14336, 30, 16), "14B": (5120, 13824, 40, 8)}
NOTHING = Stored(0)


@pytest.mark.parametrize(
    ("model", "width", "height", "frames", "tokens", "total"),
    [
        ("1.3B", 256, 256, 17, 1280, 3.8),
        ("1.3B", 480, 320, 33, 5400, 19.5),
        ("1.3B", 832, 480, 81, 32760, 283),
        ("1.3B", 1280, 720, 81, 75600, 1250),
        ("5B", 320, 192, 17, 300, 3.3),
        ("5B", 832, 480, 81, 8190, 98.0),
        ("5B", 1280, 704, 121, 27280, 517),
        ("14B", 256, 256, 17, 1280, 34.6),
        ("14B", 832, 480, 81, 32760, 1678),
        ("14B", 1280, 720, 81, 75600, 6523),
    ],
)
def test_a_forward_takes_what_was_counted_by_hand(
    model: str, width: int, height: int, frames: int, tokens: int, total: float
) -> None:
    d, ffn, layers, stride = MODELS[model]
    positions = ((frames - 1) // 4 + 1) * (height // stride // 2) * (width // stride // 2)
    assert positions == tokens
    counted = work.forward(Transformer("diffusion", d, ffn, layers, 16, NOTHING), positions)
    assert (counted.linear + counted.attention) / 1e12 == pytest.approx(total, rel=0.02)


@pytest.mark.parametrize(
    ("patch", "width", "height", "frames", "full", "tiny"),
    [
        (1, 832, 480, 81, 275, 11.4),
        (1, 832, 480, 33, 113, None),
        (2, 1280, 704, 121, 2011, 9.8),
        (2, 640, 352, 49, 204, None),
    ],
)
def test_a_decode_takes_what_was_counted_by_hand(
    patch: int, width: int, height: int, frames: int, full: float, tiny: float | None
) -> None:
    channels, base = (48, 256) if patch == 2 else (16, 96)
    latent = channels, (frames - 1) // 4 + 1, height // (8 * patch), width // (8 * patch)
    vae = Autoencoder(base, channels, patch, NOTHING)
    assert work.decode(vae, latent) / 1e12 == pytest.approx(full, rel=0.03)
    if tiny is not None:
        counted = work.decode(TinyAutoencoder(channels, patch, NOTHING), latent)
        assert counted / 1e12 == pytest.approx(tiny, rel=0.01)


def test_a_prompt_takes_two_operations_for_each_weight_and_token() -> None:
    encoder = TextEncoder(4096, 10240, 64, 256384, "Q8_0", 4_630_000_000, NOTHING)
    assert work.encode(encoder, 60) / 1e12 == pytest.approx(0.56, rel=0.01)
