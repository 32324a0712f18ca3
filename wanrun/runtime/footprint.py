"""Says how many bytes each part of a run takes at its peak, beside what stays in mapped files.

The factors were measured, not derived: what an allocation really costs includes the copies that oneDNN makes
in its own layouts and what the C library keeps (torch 2.13 on x86-64, one thread;
``tests/benchmarks/plan.py`` holds them against real runs).
"""

from __future__ import annotations

from wanrun.runtime.shapes import ITEM_BYTES, Autoencoder, Job, TinyAutoencoder, Transformer
from wanrun.runtime.work import Convolution, convolutions, tiny_convolutions

#: Copies of the latents that guidance, the sampler and the checkpoint hold, in float32.
_SAMPLER_COPIES = 8
#: Bytes of activations: at any size; for each token; for each of its ``width`` features, of which some are in
#: the precision of the products; and how often the hidden layer of the feed-forward exists.
_BLOCK_BYTES, _TOKEN_BYTES, _FEATURE_BYTES, _FEATURE_COPIES, _HIDDEN_COPIES = 6_500_000, 512, 10.3, 2.85, 1.95
#: What the largest layer of a decoder holds over its tensors with oneDNN's copies; with the holes that freed
#: tensors leave; and where the holes end: glibc gives tensors of 32 MiB and more their own pages.
_LAYER_FACTOR, _HOLES_FACTOR, _HOLES_BYTES = 1.4, 1.95, 305_000_000
_TINY_FACTOR = 1.05
#: What any decoder holds at any size, with what the transformer before it has left behind.
_DECODER_BYTES = 10_000_000
#: Frames that x264 holds at preset medium, each 1.5 bytes a pixel: its lookahead and references.
_WRITER_FRAMES = 50


def denoising(model: Transformer, job: Job) -> int:
    """One expert at work: its converted tensors, a matrix, one block's activations, the sampler's."""
    item = ITEM_BYTES[job.arithmetic]
    latents = 4 * model.out_channels * job.latent[1] * job.latent[2] * job.latent[3]
    return (
        model.stored.copied_bytes
        + 2 * model.largest_bytes  # the second one is oneDNN's, in its own layout
        + activations(model, job.tokens, item)
        + _SAMPLER_COPIES * latents
        + kept_states(model, job)
    )


def kept_states(model: Transformer, job: Job) -> int:
    """What a step cache keeps: of each branch what the blocks added, and of one what they began with."""
    copies = job.kept_branches + 1 if job.kept_branches else 0
    return 4 * copies * job.tokens * model.width


def activations(model: Transformer, tokens: int, item: int) -> int:
    """The most that one block holds at once for ``tokens`` positions, ``item`` bytes for each of a product.

    The residual stream is float32. Beside it stand the normalised input, queries, keys, values and the
    float32 pairs that are rotated, or the hidden layer before and after its GELU.
    """
    features = model.width * (_FEATURE_BYTES + _FEATURE_COPIES * item)
    hidden = model.ffn_width * _HIDDEN_COPIES * item
    return int(_BLOCK_BYTES + tokens * (_TOKEN_BYTES + features + hidden))


def decoding(decoder: Autoencoder | TinyAutoencoder, job: Job) -> int:
    """A decoder at work: weights, the frames that its layers remember, and the largest layer.

    One latent frame is decoded at a time, so their number does not matter.
    """
    item, positions = ITEM_BYTES[job.arithmetic], job.latent[2] * job.latent[3]
    if isinstance(decoder, TinyAutoencoder):
        layers = list(tiny_convolutions(decoder))
    else:
        layers = list(convolutions(decoder))
    past = sum(_remembered(layer, positions, item) for layer in layers)
    most = max(_held(layer, positions, item) for layer in layers)
    if isinstance(decoder, TinyAutoencoder):
        most = _TINY_FACTOR * most
    else:
        most = max(_LAYER_FACTOR * most, min(_HOLES_FACTOR * most, _HOLES_BYTES))
    return decoder.stored.copied_bytes + _DECODER_BYTES + past + int(most)


def writing(job: Job) -> int:
    """The video's encoder: frames that it looks ahead at."""
    return int(1.5 * job.width * job.height * min(_WRITER_FRAMES, job.frames + 6))


def _remembered(layer: Convolution, positions: int, item: int) -> int:
    """Two earlier frames of what a causal convolution reads, one of what a memory block does."""
    numbers = (layer.time_taps - 1) * layer.inputs
    if layer.kind == "memory":
        numbers = layer.outputs
    return numbers * layer.scale**2 * positions * item


def _held(layer: Convolution, positions: int, item: int) -> float:
    """Input and output of a layer, each also in oneDNN's layout, and what its block adds to it later."""
    place = layer.scale**2 * positions * item
    if layer.kind == "residual":
        reads = 2 * (layer.frames + 2) + 2 * layer.frames
        return float(place * (reads * layer.inputs + 2 * layer.frames * layer.outputs))
    return float(place * layer.frames * (2 * layer.inputs + 2 * layer.outputs))
