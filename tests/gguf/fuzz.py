"""Feeds mutated headers to the readers: ``python -m tests.gguf.fuzz --count 200000 --seed 0``.

A header must give FormatError or a parse that the ``gguf`` or ``safetensors`` package agrees with, in less
than a second of CPU time and with no more address space than the file's size plus 64 MiB. Prints the counts;
the first failure is printed with its bytes, and exits 1.
"""

from __future__ import annotations

import random
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from gguf import GGUFReader
from safetensors import SafetensorError, safe_open

from tests.fuzzing import Failure, command, limited, mixed
from tests.gguf.samples import nested_gguf, plain_gguf, rich_gguf, rich_safetensors
from wanrun.errors import FormatError
from wanrun.gguf.header import read_header
from wanrun.gguf.layout import Header

INTERESTING = (0, 1, 2, 3, 31, 255, 65_536, 1 << 27, 1 << 31, 1 << 32, 1 << 62, (1 << 63) - 1, (1 << 64) - 1)
TOKENS = (
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b":",
    b",",
    b"null",
    b"NaN",
    b"-1",
    b"1e999",
    b"\\ud800",
    b"\xff",
    b"\0",
)


def set_integer(data: bytes, place: tuple[int, int], value: int) -> bytes:
    offset, width = place
    return data[:offset] + (value % (1 << 8 * width)).to_bytes(width, "little") + data[offset + width :]


def systematic() -> Iterator[bytes]:
    """Each sample cut at every byte, and with every integer set to every interesting value."""
    for made in (rich_gguf(), nested_gguf(), plain_gguf()):
        data = bytes(made.data)
        yield from (data[:length] for length in range(1, len(data)))
        for place in made.integers:
            yield from (set_integer(data, place, value) for value in INTERESTING)
    data = rich_safetensors()
    yield from (data[:length] for length in range(1, len(data)))
    yield from (set_integer(data, (0, 8), value) for value in INTERESTING)
    for match in re.finditer(rb"\d+", data[8:]):
        for value in INTERESTING:
            text = data[8 : 8 + match.start()] + str(value).encode() + data[8 + match.end() :]
            yield len(text[:-28]).to_bytes(8, "little") + text


def mutated(rng: random.Random) -> bytes:
    """One to four random edits of a sample."""
    made = rng.choice((rich_gguf, rich_gguf, nested_gguf, plain_gguf, None))
    sample = None if made is None else made()
    data = rich_safetensors() if sample is None else bytes(sample.data)
    places = [(0, 8)] if sample is None else sample.integers
    for _ in range(rng.randint(1, 4)):
        data = _edit(rng, data, places)
    if sample is None and rng.random() < 0.7:  # let the length fit, so that the edit is what is read
        data = (len(data) - 36).to_bytes(8, "little", signed=True) + data[8:]
    return data or b"\0"


def _edit(rng: random.Random, data: bytes, places: list[tuple[int, int]]) -> bytes:
    at = rng.randrange(len(data) + 1)
    end = min(len(data), at + rng.randint(1, 40))
    choice = rng.randrange(7)
    if choice <= 1:
        return set_integer(data, rng.choice(places), rng.choice((*INTERESTING, rng.getrandbits(64))))
    if choice == 2:
        return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
    if choice == 3:
        return data[:at] + bytes(byte ^ 1 << rng.randrange(8) for byte in data[at:end]) + data[end:]
    if choice == 4:
        return data[:at] + data[end:]
    if choice == 5:
        return data[:end] + data[at:]
    return data[:at] + rng.choice(TOKENS) + data[at:]


def agree(path: Path, header: Header) -> bool:
    """Whether an independent reader gives the same tensors; True also when it cannot read the file itself."""
    ours = {info.name: (info.shape, info.nbytes) for info in header.tensors.values()}
    if header.format == "safetensors":
        with safe_open(path, "np") as file:  # we are the stricter, so what we accept it must accept
            theirs = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        return theirs == {name: shape for name, (shape, _) in ours.items()}
    try:
        read = GGUFReader(path)
    except Exception:  # it checks little, and fails in any way at what it does not check
        return True
    restored = {key.removeprefix("comfy.gguf.orig_shape.") for key in header.metadata}
    there = {t.name: (tuple(reversed(t.shape.tolist())), t.n_bytes, t.data_offset) for t in read.tensors}
    here = {info.name: (info.shape, info.nbytes, info.offset) for info in header.tensors.values()}
    return set(here) == set(there) and all(
        here[name][1:] == there[name][1:] and (name in restored or here[name][0] == there[name][0])
        for name in here
    )


def check(path: Path, data: bytes) -> str:
    """What became of one header: ``refused`` or ``parsed``; Failure when it is neither, properly."""
    path.write_bytes(data)
    try:
        header = limited(lambda: read_header(path), len(data))
    except FormatError as error:
        if not str(error).startswith(str(path)):
            raise Failure(f"the message does not name the file: {error}") from error
        return "refused"
    except Exception as error:
        raise Failure(f"{type(error).__name__}: {error}") from error
    try:
        same = agree(path, header)
    except SafetensorError as error:
        raise Failure(f"safetensors refuses what we accept: {error}") from error
    if not same:
        raise Failure("another reader finds other tensors")
    return "parsed"


def inputs(rng: random.Random, count: int) -> Iterable[bytes]:
    """The systematic headers, half of ``count`` at most, then mutated ones."""
    return mixed(rng, list(systematic()), count // 2, mutated)


def main() -> int:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        return command(__doc__, inputs, lambda data: check(Path(folder) / "header", data), 200_000)


if __name__ == "__main__":
    sys.exit(main())
