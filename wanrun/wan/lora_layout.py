"""Says what a LoRA file changes in a transformer, from names and shapes alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

from wanrun.errors import FormatError
from wanrun.gguf.layout import Header
from wanrun.wan.lora_keys import Key, Part, spellings, split_key
from wanrun.wan.lora_metadata import StatedAlphas, stated_alphas

Shape = tuple[int, ...]

#: So many keys or problems are named in a message; the others are counted.
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Pair:
    """The file's keys of a product of two matrices, up (out, rank) times down (rank, in), for one layer.

    ``stated`` is the alpha of the file's metadata, which counts where there is no key for it.
    """

    down: str
    up: str
    rank: int
    alpha: str | None = None
    up_bias: str | None = None
    stated: float | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """What a file changes: ``pairs`` by layer, ``deltas`` (keys of the file) by tensor, in original names.

    ``unmatched`` are keys that mean nothing for the model; those of the image branch are not counted, as
    LoRAs for image-to-video are also used without it.
    """

    pairs: Mapping[str, Pair]
    deltas: Mapping[str, str]
    unmatched: tuple[str, ...] = ()

    @property
    def note(self) -> str | None:
        """What was left out, for people."""
        return f"{_listed(self.unmatched)} match nothing and are left out" if self.unmatched else None


@dataclass(slots=True)
class _Reader:
    header: Header
    shapes: Mapping[str, Shape]
    alphas: StatedAlphas
    #: Keys of the file by what they change.
    found: dict[str, dict[Part, str]] = field(default_factory=dict)
    unmatched: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def sort(self, keys: list[Key], names: Mapping[str, str]) -> None:
        for key in keys:
            module = names.get(key.target)
            if module is None:
                if not key.of_image_branch:
                    self.unmatched.append(key.name)
                continue
            parts = self.found.setdefault(module, {})
            if key.part == "strange":
                self.problems.append(f"{key.name}: only LoRA and plain differences can be applied")
            elif key.part in parts:
                self.problems.append(f"{key.name} changes what {parts[key.part]} changes already")
            else:
                parts[key.part] = key.name

    def pairs(self) -> Iterator[tuple[str, Pair]]:
        for module, parts in self.found.items():
            down, up = parts.get("down"), parts.get("up")
            if down is not None and up is not None:
                rank, key = self._shape(down)[0], split_key(down)
                stated = None if key is None else self.alphas.of(key.target, rank)
                pair = Pair(down, up, rank, parts.get("alpha"), parts.get("up_bias"), stated)
                if self._fits(module, pair):
                    yield module, pair
            elif down is not None or up is not None:
                self.problems.append(f"{down or up} has no other half")

    def _fits(self, module: str, pair: Pair) -> bool:
        """Whether the pair makes the layer's matrix; a problem is noted if not."""
        down, up = self._shape(pair.down), self._shape(pair.up)
        weight = self.shapes.get(f"{module}.weight", ())
        if len(weight) < 2:
            self.problems.append(f"{pair.down}: {module} is no matrix")
            return False
        out, inputs = weight[0], prod(weight[1:])
        if len(down) < 2 or len(up) < 2:
            self.problems.append(f"{pair.down} {down} and {pair.up} {up} are no matrices")
        elif prod(up[1:]) != pair.rank:
            self.problems.append(f"{pair.up} has shape {up}, and {pair.down} has rank {pair.rank}")
        elif (up[0], prod(down[1:])) != (out, inputs):
            self.problems.append(
                f"{pair.down} and its other half make {up[0]} × {prod(down[1:])}, "
                f"and {module} is {out} × {inputs}"
            )
        elif not 0 < pair.rank <= max(out, inputs):
            self.problems.append(f"{pair.down} has rank {pair.rank}, and {module} is {out} × {inputs}")
        elif pair.alpha is not None and prod(self._shape(pair.alpha, 0)) != 1:
            self.problems.append(f"{pair.alpha} must be one number, not {self._shape(pair.alpha, 0)}")
        elif pair.up_bias is not None and self._shape(pair.up_bias) != self.shapes.get(f"{module}.bias"):
            self.problems.append(f"{pair.up_bias} has shape {self._shape(pair.up_bias)}, not ({out},)")
        else:
            return True
        return False

    def deltas(self) -> Iterator[tuple[str, str]]:
        for module, parts in self.found.items():
            whole = module if module in self.shapes else f"{module}.weight"
            wanted = {whole: parts.get("weight"), f"{module}.bias": parts.get("bias")}
            for tensor, key in wanted.items():
                if key is None:
                    continue
                if tensor not in self.shapes:
                    self.unmatched.append(key)
                elif _without_ones(self._shape(key, 0)) == _without_ones(self.shapes[tensor]):
                    yield tensor, key
                else:
                    shape, expected = self._shape(key, 0), self.shapes[tensor]
                    self.problems.append(f"{key} has shape {shape}, and {tensor} {expected}")

    def _shape(self, key: str, rank: int = 1) -> Shape:
        """The shape of a key's tensor, with at least ``rank`` dimensions."""
        shape = self.header.tensors[key].shape
        return shape if len(shape) >= rank else (1,) * (rank - len(shape)) + shape


def match_lora(header: Header, shapes: Mapping[str, Shape]) -> Layout:
    """What the file of ``header`` changes in a transformer whose tensors have ``shapes``, by original name.

    Raises FormatError when nothing of it fits the model, and when a part that should does not: another
    width, half a pair, a layer that is changed twice, a kind of adapter that is not LoRA.
    """
    keys = [split_key(name) for name in header.tensors]
    known = [key for key in keys if key is not None]
    names = max(spellings(shapes), key=lambda names: sum(key.target in names for key in known))
    reader = _Reader(header, shapes, stated_alphas(header))
    reader.unmatched += [name for name, key in zip(header.tensors, keys, strict=True) if key is None]
    reader.sort(known, names)
    layout = Layout(dict(reader.pairs()), dict(reader.deltas()), tuple(reader.unmatched))
    if reader.problems:
        raise FormatError(_problem(header.path, reader.problems))
    if not layout.pairs and not layout.deltas:
        raise FormatError(
            f"{header.path} changes nothing of this model: {_listed(tuple(header.tensors))} match none of "
            "its layers"
        )
    return layout


def _problem(path: Path, problems: list[str]) -> str:
    more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
    return f"{path} does not fit this model: {'; '.join(problems[:_NAMED])}{more}"


def _listed(keys: tuple[str, ...]) -> str:
    some = ", ".join(key[:120] for key in keys[:_NAMED])
    return f"{len(keys)} keys ({some}{', …' if len(keys) > _NAMED else ''})"


def _without_ones(shape: Shape) -> Shape:
    return tuple(size for size in shape if size != 1)
