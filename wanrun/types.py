"""The values that flow through a run, and the seams where a plugin may stand.

Shapes: latents are (channels, frames, height, width) float32 in the DiT's normalised space; a video frame is
(height, width, 3) uint8; a context is (tokens, width) float32 with true tokens only. A timestep is 0..1000,
a sigma is 0..1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias, TypeVar, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Generator, Tensor

    from wanrun.wan.model import Walk

#: uint8 (height, width, 3)
Frame: TypeAlias = "NDArray[np.uint8]"

Function = TypeVar("Function", bound=Callable[..., Any])

#: Called by long work with (phase, done, total); total 0 means unknown.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Range:
    """Bounds a plugin's option, both ends included: ``eta: Annotated[float, Range(0, 1)] = 1.0``."""

    low: float
    high: float


#: Roles a component may have in a bundle. A dense model has only ``diffusion``.
ROLES = ("diffusion", "high_noise", "low_noise", "text_encoder", "vae", "preview", "expander")
EXPERTS = ("diffusion", "high_noise", "low_noise")

#: The sigma from which on objects have got their shape.
SHAPED = 0.6


class Resource(Protocol):
    """Something that holds weights or a process until it is closed; a context manager that closes itself."""

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class TextEncoder(Resource, Protocol):
    """Turns a prompt into the rows that cross-attention reads."""

    def tokenize(self, text: str) -> list[int]:
        """Token ids of the cleaned text, end-of-sequence id included, at most 512."""
        ...

    def encode(self, text: str) -> Tensor:
        """(tokens ≤ 512, width) float32 on the CPU: true tokens only, end-of-sequence row included."""
        ...


@runtime_checkable
class SpanEncoder(Protocol):
    """A TextEncoder that says which token stands for which characters, as weights need it."""

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Of each token, without the end-of-sequence, the characters of the cleaned text; none is cut."""
        ...


class Denoiser(Resource, Protocol):
    """Predicts the flow's velocity; hides experts, offload and precision. One branch per call."""

    def velocity(
        self, latents: Tensor, timestep: float | Tensor, context: Tensor, condition: Tensor | None = None
    ) -> Tensor:
        """dx/dσ at ``latents``, float32, same shape.

        ``timestep`` is 0..1000, a number or one per latent frame; ``context`` is (tokens, text width);
        ``condition`` is (channels, frames, height, width), what image-to-video joins to the latents.
        """
        ...


@runtime_checkable
class BranchDenoiser(Protocol):
    """A Denoiser that may evaluate the branches of guidance in one pass over its weights."""

    def velocities(
        self,
        latents: Tensor,
        timestep: float | Tensor,
        contexts: Sequence[Tensor],
        condition: Tensor | None = None,
    ) -> list[Tensor]:
        """The velocity of each context, as ``Denoiser.velocity`` has it."""
        ...


@runtime_checkable
class BlockDenoiser(Protocol):
    """A Denoiser that lets others between the blocks of its transformer, as some step caches need."""

    def walked(
        self,
        latents: Tensor,
        timestep: float | Tensor,
        contexts: Sequence[Tensor],
        condition: Tensor | None,
        walk: Walk,
    ) -> list[Tensor]:
        """As ``BranchDenoiser.velocities``; ``walk`` takes the hidden states through the blocks.

        It is called once or more, in the contexts' order, with a row for each of some of them.
        """
        ...


@dataclass(slots=True)
class Tally:
    """What a video's sampling took: forwards of the model that were asked for, and those left out.

    A forward of which some blocks are computed is left out in part.
    """

    forwards: int = 0
    skipped: float = 0.0

    @property
    def share(self) -> float:
        """The part of the forwards that was left out, 0..1."""
        return self.skipped / self.forwards if self.forwards else 0.0

    def recall(self, written: object) -> None:
        """Take over what an earlier attempt has written down, if anything."""
        if isinstance(written, dict):
            self.forwards, self.skipped = int(written["forwards"]), float(written["skipped"])


class StepCache(Denoiser, Protocol):
    """A denoiser that answers by itself where the model's answer would hardly change; for one video.

    ``note`` and ``replay`` let an interrupted video continue to the same bits.
    """

    tally: Tally

    def velocities(
        self,
        latents: Tensor,
        timestep: float | Tensor,
        contexts: Sequence[Tensor],
        condition: Tensor | None = None,
    ) -> list[Tensor]:
        """As ``BranchDenoiser.velocities``; the first context decides for all."""
        ...

    def note(self) -> bytes:
        """What the last call has changed, to be kept beside what it answered."""
        ...

    def replay(self, latents: Tensor, timestep: float, note: bytes) -> None:
        """Take over what the call with these arguments had noted; FormatError for what is no note."""
        ...


class Decoder(Resource, Protocol):
    """Turns latents into frames, streamed so that memory does not grow with their number."""

    def frames(self, latents: Tensor) -> Iterator[Frame]:
        """uint8 (height, width, 3), in order."""
        ...

    def encode(self, frames: Iterable[Frame]) -> Tensor:
        """Latents of 4k+1 frames."""
        ...


#: The guided velocity at (latents, timestep 0..1000).
Denoise = Callable[["Tensor", float], "Tensor"]

#: Called after each step with (index from 0, latents, the step's estimate of the clean latents).
OnStep = Callable[[int, "Tensor", "Tensor"], None]


class Sampler(Protocol):
    """Integrates from ``sigmas[0]`` to ``sigmas[-1]``; a plain function. ``rng`` belongs to the CPU."""

    def __call__(
        self, denoise: Denoise, latents: Tensor, sigmas: Tensor, rng: Generator, on_step: OnStep
    ) -> Tensor: ...


def forwards(count: int) -> Callable[[Function], Function]:
    """Marks a sampler that asks the model ``count`` times a step; plans read it from the source."""

    def marked(function: Function) -> Function:
        return function

    return marked


class Schedule(Protocol):
    """``steps`` + 1 sigmas from about 1 to 0; a plain function, best without torch: plans ask it, too."""

    def __call__(self, steps: int, shift: float) -> Sequence[float]: ...


class Source(Protocol):
    """Where a reference's bytes come from."""

    def __call__(self, reference: str, into: Path, progress: Progress) -> Path:
        """Bring the file to disk and return where it lies; ``into`` is a folder for what must be copied."""
        ...


class Expander(Protocol):
    """Adds to a prompt what its writer left out; a plain function from plain text to plain text."""

    def __call__(self, text: str, seed: int, brief: str, model: Path | None) -> str:
        """The longer text, the same for the same seed; whoever calls checks that it keeps the prompt's words.

        ``brief`` is the bundle's SYSTEM, "" for none; ``model`` is the bundle's EXPANDER, None for none.
        """
        ...


class Checkpoint(Protocol):
    """Keeps the velocities of a run, so that an interrupted one continues where it stopped."""

    def recorded(self) -> list[bytes]:
        """Those of an earlier attempt, from the first on: little-endian float32."""
        ...

    def record(self, index: int, data: bytes) -> None:
        """Keep one more; durable when this returns."""
        ...


@dataclass(frozen=True, slots=True)
class Component:
    """One file of a bundle: what it is for, where it lies, and what its bytes are."""

    role: str
    path: Path
    digest: str
    size: int
    #: File name or reference it was made from, for people.
    origin: str


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA file and how strongly it is applied; ``role`` is an expert's, or "" for all of them."""

    role: str
    scale: float
    component: Component

    def serves(self, role: str) -> bool:
        """Whether the expert ``role`` is to be changed by it."""
        return self.role in ("", role)


@dataclass(frozen=True, slots=True)
class Lora:
    """An adapter that a request brings along, for the expert ``role`` or, with "", for all of them.

    The store has its bytes under ``digest``; ``origin`` is its file's name, for people.
    """

    role: str
    scale: float
    digest: str
    origin: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """A model that can run: components by role, adapters in order, and the Modelfile's settings."""

    name: str
    components: Mapping[str, Component]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    template: str = "{{ prompt }}"
    negative: str = ""
    system: str = ""
    licenses: tuple[str, ...] = ()
    adapters: tuple[Adapter, ...] = ()

    @property
    def experts(self) -> dict[str, Component]:
        """The diffusion components by role: one ``diffusion``, or ``high_noise`` and ``low_noise``."""
        return {role: self.components[role] for role in EXPERTS if role in self.components}


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """Everything that decides a video but the weights; made by ``wanrun.request.resolve``."""

    prompt: str
    negative: str
    width: int
    height: int
    frames: int
    fps: int
    steps: int
    shift: float
    #: Sigma at which the low-noise expert takes over; None for a dense model.
    boundary: float | None
    sampler: str
    schedule: str
    guidance_high: float
    guidance_low: float
    seed: int
    precision: str
    decoder: str
    #: (channels, frames, height, width)
    latent_shape: tuple[int, int, int, int]
    #: Applied after the bundle's own adapters, in this order.
    lora: tuple[Lora, ...] = ()
    #: What was changed to fit the model, for people.
    notes: tuple[str, ...] = ()
    #: Guidance is used at sigmas from ``guidance_start`` down to ``guidance_end``.
    guidance_start: float = 1.0
    guidance_end: float = 0.0
    #: 0..1: how far the guided prediction gets the spread of the conditional one.
    guidance_rescale: float = 0.0
    #: A step cache with its options, or "none".
    cache: str = "none"
    #: How the noise of the frames hangs together, with its options; "iid" is not at all.
    noise: str = "iid"
    #: How much attention across frames is strengthened; 0 is not.
    cross_frame: float = 0.0
    #: 0..1: how far still areas are smoothed in time after decoding.
    flicker: float = 0.0
    #: What was typed, where the seed chose words in it; ``prompt`` has them chosen.
    written: str = ""
    #: An expander with its options, or "none".
    expand: str = "none"
    #: What the expander made of ``prompt``; "" until it did.
    expanded: str = ""

    @property
    def text(self) -> str:
        """The prompt that is encoded: the expanded one where there is one."""
        return self.expanded or self.prompt

    #: How much more guidance the nouns of a prompt of several objects get; 0 is none.
    compose: float = 0.0


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What the prompts say to the denoiser; ``negative`` is None where no guidance scale needs it."""

    positive: Tensor
    negative: Tensor | None
    #: The prompt without what its objects are, where they are composed.
    headless: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Clip:
    """A finished video in memory, and where it came from."""

    frames: list[Frame]
    fps: int
    provenance: Mapping[str, Any]

    def save(self, path: str | Path, format: str | None = None) -> Path:
        """Write mp4, webm, gif or png, by ``format`` or the name's ending, with the provenance."""
        from wanrun.video.writer import open_writer  # only what saves needs the encoders

        with open_writer(path, self.fps, format, self.provenance) as writer:
            for frame in self.frames:
                writer.write(frame)
        return writer.path
