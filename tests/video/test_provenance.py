"""Provenance: comes back from every format, is plain to other tools, and hostile files are only an error."""

from __future__ import annotations

import json
import os
import random
import struct
import time
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from wanrun.errors import FormatError, InvalidRequest, ModelNotFound
from wanrun.video.comments import COMMENT_LIMIT
from wanrun.video.destination import FORMATS
from wanrun.video.provenance import provenance_text, read_provenance
from wanrun.video.writer import open_writer

from .clips import flat

PROMPT = 'Ein roter Ball „springt“, 一个红色的球, كرة حمراء, 🟥👩‍🚀, "quotes", back\\slash,\nnew line\t\0 end'
RECORDS: dict[str, dict[str, Any]] = {
    "plain": {"prompt": "a red ball"},
    "everything": {
        "prompt": PROMPT,
        "seed": 2**64 - 1,
        "sigmas": [1.0, 0.1 + 0.2, 0.0],
        "none": None,
        "deep": {"a": [{}]},
    },
    "empty": {},
    "long": {"prompt": "red ball, " * 10_000},
    "long and wide": {"prompt": "红球🟥" * 10_000},
    "bytes of an old terminal": {"prompt": os.fsdecode(b"caf\xe9")},
    "blocks of a gif": {"prompt": "x" * (255 * 3 - len('{"prompt": ""}'))},
}


def write(folder: Path, format: str, record: dict[str, Any], frames: int = 2) -> Path:
    with open_writer(folder / "clip", 16, format, record) as writer:
        for frame in flat(frames, 16, 24):
            writer.write(frame)
    return writer.path


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS.keys())
@pytest.mark.parametrize("format", FORMATS)
def test_comes_back(tmp_path: Path, format: str, record: dict[str, Any]) -> None:
    assert read_provenance(write(tmp_path, format, record)) == record


@pytest.mark.parametrize("format", FORMATS)
def test_other_tools_read_it(tmp_path: Path, format: str) -> None:
    record = {"prompt": PROMPT}
    path = write(tmp_path, format, record, frames=1)
    if format in ("mp4", "webm"):
        with av.open(str(path), format=format) as file:
            comment = {key.lower(): value for key, value in file.metadata.items()}["comment"]
    else:
        with Image.open(path) as image:
            image.load()
            found = image.info["comment" if format == "gif" else "Comment"]
            comment = found.decode() if isinstance(found, bytes) else found
    assert comment == json.dumps(record, ensure_ascii=False)


def test_survives_a_remux_that_puts_the_index_last(tmp_path: Path) -> None:
    """As ``ffmpeg -codec copy`` does when a clip is trimmed."""
    path = write(tmp_path, "mp4", RECORDS["everything"])
    copy = tmp_path / "copy.mp4"
    with av.open(str(path), format="mp4") as source, av.open(str(copy), "w", format="mp4") as target:
        target.metadata.update(source.metadata)
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    data = copy.read_bytes()
    assert data.index(b"mdat") < data.index(b"moov")
    assert read_provenance(copy) == RECORDS["everything"]


def test_a_png_of_another_tool_may_leave_it_uncompressed(tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text("Software", "another")
    info.add_itxt("Title", "ball", zip=True)
    info.add_itxt("Comment", '{"prompt": "红"}', lang="zh", tkey="评论")
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png", pnginfo=info)
    assert read_provenance(tmp_path / "x.png") == {"prompt": "红"}


@pytest.mark.parametrize("value", [float("nan"), object(), b"bytes", {1, 2}])
def test_refuses_what_json_cannot_hold(value: object) -> None:
    with pytest.raises(InvalidRequest, match="plain JSON"):
        provenance_text({"value": value})


def test_refuses_more_than_the_limit() -> None:
    fits = "x" * (COMMENT_LIMIT - len('{"prompt": ""}'))
    assert len(provenance_text({"prompt": fits})) == COMMENT_LIMIT
    with pytest.raises(InvalidRequest, match="1048576 bytes"):
        provenance_text({"prompt": fits + "x"})


@pytest.mark.parametrize("format", FORMATS)
def test_the_limit_itself_comes_back(tmp_path: Path, format: str) -> None:
    record = {"prompt": random.Random(0).randbytes(COMMENT_LIMIT // 2 - 7).hex()}
    assert len(provenance_text(record)) == COMMENT_LIMIT
    assert read_provenance(write(tmp_path, format, record, frames=1)) == record


def test_a_folder_of_other_things(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        read_provenance(tmp_path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"no file .*clip\.mp4"):
        read_provenance(tmp_path / "clip.mp4")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "clip.mp4")
    with pytest.raises(ModelNotFound):
        read_provenance(tmp_path / "clip.mp4")


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content) + 8) + kind + content


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def mp4_with(text: bytes) -> bytes:
    data = box(b"data", struct.pack(">II", 1, 0) + text)
    item = box(b"udta", box(b"meta", bytes(4) + box(b"ilst", box(b"\xa9cmt", data))))
    return box(b"ftyp", b"isom") + box(b"moov", item)


def png_with(content: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(b"iTXt", content)


GIF, WEBM = b"GIF89a" + bytes(7), b"\x1a\x45\xdf\xa3\x80"
SEGMENT = b"\x18\x53\x80\x67"
HOSTILE = {
    "nothing": b"",
    "text": b"hello there, this is no video",
    "playlist": b"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\nfile:///etc/passwd\n",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "mp4: no comment": box(b"ftyp", b"isom") + box(b"moov", b""),
    "mp4: not JSON": mp4_with(b"made with love"),
    "mp4: a list": mp4_with(b"[1]"),
    "mp4: NaN": mp4_with(b'{"a": NaN}'),
    "mp4: not UTF-8": mp4_with(b'{"a": "\xff"}'),
    "mp4: brackets": mp4_with(b"[" * 500_000),
    "mp4: objects": mp4_with(b'{"a":' * 100_000),
    "mp4: digits": mp4_with(b'{"a":' + b"9" * 500_000 + b"}"),
    "mp4: over the limit": mp4_with(b'{"a": "' + b"x" * COMMENT_LIMIT + b'"}'),
    "mp4: empty data": box(b"ftyp", b"isom")
    + box(b"moov", box(b"udta", box(b"meta", bytes(4) + box(b"ilst", box(b"\xa9cmt", box(b"data", b"")))))),
    "mp4: box of no size": box(b"ftyp", b"isom") + struct.pack(">I", 4) + b"free",
    "mp4: box beyond the end": box(b"ftyp", b"isom") + struct.pack(">I", 2**31) + b"moov",
    "mp4: box of 2^64": box(b"ftyp", b"isom") + struct.pack(">I4sQ", 1, b"moov", 2**64 - 1),
    "mp4: a million boxes": box(b"ftyp", b"isom") + box(b"free", b"") * 1_000_000,
    "webm: no segment": WEBM,
    "webm: a million elements": WEBM + SEGMENT + b"\x01" + b"\xff" * 7 + b"\xec\x80" * 1_000_000,
    "webm: element of 2^56": WEBM + SEGMENT + b"\x01" + b"\xff" * 6 + b"\xfe",
    "webm: not a number": WEBM + SEGMENT + b"\xff\x00\x00",
    "gif: nothing": GIF,
    "gif: no comment": GIF + b";",
    "gif: unknown block": GIF + b"?",
    "gif: an extension of a million blocks": GIF + b"!\xf9" + b"\x01x" * 1_000_000,
    "gif: a comment of a million blocks": GIF + b"!\xfe" + b"\x01{" * 1_000_000,
    "gif: table beyond the end": b"GIF89a" + bytes(4) + b"\xf7\0\0" + b"!",
    "png: no chunks": b"\x89PNG\r\n\x1a\n",
    "png: chunk beyond the end": b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 2**32 - 1) + b"iTXt" + bytes(8),
    "png: cut short": png_with(b"Comment\0"),
    "png: not deflate": png_with(b"Comment\0\1\0\0\0nonsense"),
    "png: bomb": png_with(b"Comment\0\1\0\0\0" + zlib.compress(bytes(200 * COMMENT_LIMIT), 9)),
    "png: deflate cut short": png_with(b"Comment\0\1\0\0\0" + zlib.compress(b'{"prompt": "x"}')[:-6]),
    "png: a million chunks": b"\x89PNG\r\n\x1a\n" + chunk(b"teXt", b"") * 1_000_000,
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_files(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "clip"
    path.write_bytes(data)
    started = time.process_time()
    with pytest.raises(FormatError, match="clip"):
        read_provenance(path)
    assert time.process_time() - started < 1


@pytest.mark.parametrize("name", [name for name in HOSTILE if "million" in name])
def test_gives_up_on_files_of_crumbs(tmp_path: Path, name: str) -> None:
    path = tmp_path / "clip"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(FormatError, match="no comment within the first 100000 parts"):
        read_provenance(path)


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "clip"
    path.write_bytes(HOSTILE["png: bomb"])
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match="over 1048576 bytes"):
            read_provenance(path)
        assert tracemalloc.get_traced_memory()[1] < 16 * COMMENT_LIMIT
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("format", FORMATS)
def test_damaged_files(tmp_path: Path, format: str) -> None:
    """Truncations at 200 lengths and 400 mutations: a record or FormatError, nothing else."""
    whole = write(tmp_path, format, {"prompt": "a red ball"}, frames=1).read_bytes()
    draw = random.Random(1)
    variants = [whole[: len(whole) * part // 200] for part in range(200)]
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(draw.randint(1, 8)):
            damaged[draw.randrange(len(damaged))] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
        variants.append(bytes(damaged))
    outcomes = {"record": 0, "error": 0}
    path = tmp_path / "damaged"
    for variant in variants:
        path.write_bytes(variant)
        try:
            outcomes["record"] += isinstance(read_provenance(path), dict)
        except FormatError:
            outcomes["error"] += 1
    assert sum(outcomes.values()) == len(variants)
    assert min(outcomes.values()) > 20
