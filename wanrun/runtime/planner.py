"""Plans a run: seconds and peak bytes of each phase, from shapes, the machine's rates and the request.

Pure arithmetic over plain values. What a run cannot beat, with F operations a second, B bytes a second, P
parameters of b bytes, S tokens, L layers, width d and feed-forward width f:

    forward   ≥ max(linear / F_linear + attention / F_attention, bytes of weights / B_memory)
    unpacking   (b + 2) · F / (2 · S · B_memory) of the products' time: little for many tokens, all for few
    streaming   weights over a link are hidden behind the products from S = F · b / (2 · B_link) tokens on
    loading   ≥ bytes of the file / B_disk; files are taken to be in the system's cache already
    text        2 operations for each of the encoder's parameters and true tokens, once a prompt
    decoding    what the convolutions do, proportional to pixels; its memory does not depend on the frames

Two kinds of memory are told apart. ``memory`` is what a run must have: tensors, processes, libraries.
``pages`` are weights that stay in their mapped files: the system reads them again when it had to let them go,
so they make a run slow where they do not fit, and never fail it. Only ``memory`` is held against the limit.
"""

from __future__ import annotations

from dataclasses import dataclass

from wanrun.runtime import footprint, work
from wanrun.runtime.machine import Machine, Rates
from wanrun.runtime.shapes import ITEM_BYTES, Autoencoder, Job, Parts, TinyAutoencoder, Transformer

#: Bytes of text encoder for each row of its table of tokens: the words and the tree that finds them.
_TOKEN_BYTES = 1200
#: Unpacked weights stay in memory where at least this many times their size would be free.
_ROOM = 2
#: How much faster products in 8 bits are than in bf16, their rounding included.
_INT8_SPEEDUP = 1.8


@dataclass(frozen=True, slots=True)
class Phase:
    """One part of a run.

    ``memory`` and ``pages`` are bytes of main memory at its peak; ``device_memory`` those of an accelerator.
    """

    name: str
    seconds: float
    memory: int
    pages: int
    device_memory: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """A run as it will be. ``limit`` and ``device_limit`` are the bytes it may take of each memory."""

    device: str
    precision: str
    phases: tuple[Phase, ...]
    limit: int
    device_limit: int
    #: What the backend is told to keep (see ``wanrun.diffusion.experts.load``): bytes of unpacked weights, or
    #: of blocks on an accelerator that has no room for all; None where it has.
    resident: int | None

    @property
    def seconds(self) -> float:
        return sum(phase.seconds for phase in self.phases)

    @property
    def memory(self) -> int:
        return max(phase.memory for phase in self.phases)

    @property
    def pages(self) -> int:
        """The mapped bytes of the phase that has the most."""
        return max(phase.pages for phase in self.phases)

    @property
    def device_memory(self) -> int:
        return max(phase.device_memory for phase in self.phases)

    @property
    def fits(self) -> bool:
        return self.memory <= self.limit and self.device_memory <= self.device_limit

    @property
    def worst(self) -> Phase:
        """The phase that decides whether the run fits."""
        on_device = self.device_memory > self.device_limit
        return max(self.phases, key=lambda phase: phase.device_memory if on_device else phase.memory)


def plan(parts: Parts, job: Job, machine: Machine, limit: int, device_limit: int = 0) -> Plan:
    """The plan of ``job`` with ``parts`` on ``machine``, where ``limit`` bytes may be taken."""
    if machine.device_bytes:
        room = min(_room(model, job, device_limit) for model in parts.experts)
        whole = room >= max(model.blocks_bytes for model in parts.experts)
        kept = None if whole else max(0, room - 2 * max(_block_bytes(model) for model in parts.experts))
        phases = _phases(parts, job, machine, kept)
        return Plan(machine.device, job.precision, phases, limit, device_limit, kept)
    lean = _phases(parts, job, machine, 0)
    spare = limit - max(phase.memory for phase in lean)
    unpacked = max(_unpacked_bytes(model, job) for model in parts.experts)
    # all or nothing, and never most of what is left, which the mapped files are better off with
    resident = unpacked if _ROOM * unpacked <= spare else 0
    phases = _phases(parts, job, machine, resident) if resident else lean
    # a device that does not say how much memory it has keeps everything
    kept = resident if machine.device == "cpu" else None
    return Plan(machine.device, job.precision, phases, limit, device_limit, kept)


def _room(model: Transformer, job: Job, device_limit: int) -> int:
    """Bytes of an accelerator that are left for blocks."""
    beside = footprint.denoising(model, job) - model.stored.copied_bytes
    return device_limit - beside - (model.held_bytes - model.blocks_bytes)


def _block_bytes(model: Transformer) -> int:
    return -(-model.blocks_bytes // max(1, model.layers))


def _phases(parts: Parts, job: Job, machine: Machine, resident: int | None) -> tuple[Phase, ...]:
    phases = [Phase("start", machine.import_s, int(machine.import_bytes), 0), _encoding(parts, job, machine)]
    first = machine.network_s
    for model, evaluations in zip(parts.experts, job.evaluations, strict=True):
        if evaluations:
            denoise = _streaming if machine.device_bytes else _denoising
            phases.append(denoise(model, job, machine, evaluations, first, resident))
            first = 0.0
    return (*phases, _decoding(parts.decoder, job, machine), _writing(job, machine))


def _int8_elements(model: Transformer, job: Job) -> int:
    """Weights that are kept in 8 bits: see ``wanrun.wan.load``."""
    if job.precision != "int8":
        return 0
    return max(0, model.layers - 2) * model.width * (6 * model.width + 2 * model.ffn_width)


def _unpacked_bytes(model: Transformer, job: Job) -> int:
    others = max(0, sum(model.packed.values()) - _int8_elements(model, job))
    return others * ITEM_BYTES[job.arithmetic]


def forward_s(model: Transformer, job: Job, machine: Machine) -> float:
    """Seconds of one forward, without unpacking weights."""
    rates = machine.rates[job.arithmetic]
    counted = work.forward(model, job.tokens, job.prompt_tokens + 1)
    saved = 2.0 * job.tokens * _int8_elements(model, job) * (1 - 1 / _INT8_SPEEDUP)
    products = (counted.linear - saved) / rates.linear + counted.attention / rates.attention
    others = model.layers * (rates.block_s + job.tokens * model.width * rates.element_s)
    return products + others


def unpack_s(model: Transformer, machine: Machine) -> float:
    """Seconds of unpacking every matrix once; a type that was not measured counts as the slowest."""
    slowest = min(machine.unpack.values())
    elements = sum(count / machine.unpack.get(kind, slowest) for kind, count in model.packed.items())
    return elements + model.matrices * machine.matrix_s


def decode_s(decoder: Autoencoder | TinyAutoencoder, job: Job, machine: Machine) -> float:
    """Seconds of decoding all latent frames."""
    rates, positions = machine.rates[job.arithmetic], job.latent[2] * job.latent[3]
    frames = job.latent[1]
    if isinstance(decoder, TinyAutoencoder):
        layers = list(work.tiny_convolutions(decoder))
        return work.decode(decoder, job.latent) / rates.tiny + len(layers) * rates.prepare_s
    layers = list(work.convolutions(decoder))
    first = sum(layer.operations(positions, first=True) / _speed(rates, layer.inputs) for layer in layers)
    rest = sum(layer.operations(positions) / _speed(rates, layer.inputs) for layer in layers)
    attention = frames * work.bottleneck_attention(decoder, positions) / rates.attention
    # a clip's first frame has shapes of its own, and so has its second
    return first + (frames - 1) * rest + attention + min(frames, 2) * len(layers) * rates.prepare_s


def _speed(rates: Rates, channels: int) -> float:
    """Operations a second of a convolution over ``channels``, between the measured widths."""
    measured = sorted((int(width), speed) for width, speed in rates.convolution.items())
    below = [each for each in measured if each[0] <= channels] or measured[:1]
    above = [each for each in measured if each[0] >= channels] or measured[-1:]
    (low, slow), (high, fast) = below[-1], above[0]
    share = (channels - low) / (high - low) if high > low else 0.0
    return slow + share * (fast - slow)


def _encoding(parts: Parts, job: Job, machine: Machine) -> Phase:
    if not job.prompts:
        return Phase("text", 0.0, int(machine.import_bytes), 0)
    encoder = parts.encoder
    speed = machine.encode.get(encoder.kind, min(machine.encode.values()))
    seconds = machine.encoder_s + job.prompts * work.encode(encoder, job.prompt_tokens) / speed
    # llama.cpp makes room for 512 rows, but only what the prompt needs is ever touched
    scores = 2 * encoder.heads * job.prompt_tokens**2
    rows = job.prompt_tokens * (3 * encoder.ffn_width + 6 * encoder.width)
    memory = machine.import_bytes + machine.encoder_bytes + 4 * (scores + rows)
    return Phase("text", seconds, int(memory + _TOKEN_BYTES * encoder.vocabulary), encoder.stored.file_bytes)


def _denoising(
    model: Transformer, job: Job, machine: Machine, evaluations: int, first_s: float, resident: int | None
) -> Phase:
    resident = resident or 0
    taken = footprint.denoising(model, job) + _int8_elements(model, job)
    taken += min(resident, _unpacked_bytes(model, job))
    unpacked = 1 if resident else evaluations
    seconds = first_s + evaluations * forward_s(model, job, machine) + unpacked * unpack_s(model, machine)
    seconds += model.stored.copied_bytes / ITEM_BYTES[job.arithmetic] / min(machine.unpack.values())
    return Phase(model.role, seconds, int(machine.network_bytes) + taken, model.stored.kept_bytes)


def _streaming(
    model: Transformer, job: Job, machine: Machine, evaluations: int, first_s: float, resident: int | None
) -> Phase:
    """On an accelerator: blocks beyond ``resident`` bytes come over the link at each evaluation."""
    streamed = 0 if resident is None else max(0, model.blocks_bytes - resident)
    places = 2 * _block_bytes(model) if streamed else 0
    taken = footprint.denoising(model, job) + model.stored.kept_bytes - streamed + places
    each = max(forward_s(model, job, machine) + unpack_s(model, machine), streamed / machine.link)
    seconds = first_s + model.held_bytes / machine.link + evaluations * each
    pages = model.stored.file_bytes if streamed else 0
    return Phase(model.role, seconds, int(machine.network_bytes) + places, pages, taken)


def _decoding(decoder: Autoencoder | TinyAutoencoder, job: Job, machine: Machine) -> Phase:
    taken, seconds = footprint.decoding(decoder, job), decode_s(decoder, job, machine)
    name = "tiny" if isinstance(decoder, TinyAutoencoder) else "vae"
    phase = _placed(name, seconds, taken, decoder.stored.kept_bytes, machine)
    # the video's encoder holds its frames meanwhile
    memory = phase.memory + footprint.writing(job)
    return Phase(name, seconds, memory, phase.pages, phase.device_memory)


def _writing(job: Job, machine: Machine) -> Phase:
    seconds = job.frames * job.width * job.height / machine.write
    return Phase("writing", seconds, int(machine.network_bytes) + footprint.writing(job), 0)


def _placed(name: str, seconds: float, taken: int, kept: int, machine: Machine) -> Phase:
    """A network's phase: beside the libraries, or in the memory of the accelerator if there is one."""
    if machine.device_bytes:
        return Phase(name, seconds, int(machine.network_bytes), 0, taken + kept)
    return Phase(name, seconds, int(machine.network_bytes) + taken, kept)
