"""What clients cost a generation: ``python -m tests.benchmarks.server_load [--rounds 3] [--steps 300]``.

The same video is made alone and while 500 clients poll, as often as the server tells them to, and 50 follow
its events. Printed are the ratio of the times that a step takes, in one run; the latency of
a status call on loopback; and what the server's memory does over 10,000 requests.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from tests.benchmarks.serving import Served, serve, stored

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_POLL = re.compile(rb"openai-poll-after-ms: (\d+)", re.IGNORECASE)
_AT_ONCE = 20


class Connection:
    """A connection that is kept: as little of a client as possible, since it runs beside what it measures."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, path: str, body: bytes = b"") -> tuple[bytes, bytes]:
        """The head and the body of the answer to GET, or to POST of a ``body``."""
        self.send(path, body)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        assert length is not None, head
        return head, await self._reader.readexactly(int(length[1]))

    def send(self, path: str, body: bytes = b"") -> None:
        method = "POST" if body else "GET"
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)

    async def line(self) -> bytes:
        """The next line of an answer that is streamed; b"" at its end."""
        line = await self._reader.readline()
        return b"" if line == b"0\r\n" else line

    def close(self) -> None:
        self._writer.close()


async def order(port: int, steps: int, seed: int) -> str:
    """The id of a video of so many steps."""
    connection = await Connection.open(port)
    sent = {"model": "wan-toy", "prompt": "a red ball", "num_inference_steps": steps, "seed": seed}
    _, answer = await connection.ask("/v1/videos", json.dumps(sent).encode())
    connection.close()
    return str(json.loads(answer)["id"])


async def poll(port: int, video_id: str, delay_s: float, latencies: list[float]) -> None:
    """Ask for the video's state until it is over, as often as the official client does."""
    await asyncio.sleep(delay_s)
    connection = await Connection.open(port)
    while True:
        begun = time.perf_counter()
        head, body = await connection.ask(f"/v1/videos/{video_id}")
        latencies.append(time.perf_counter() - begun)
        if b'"status":"queued"' not in body and b'"status":"in_progress"' not in body:
            connection.close()
            return
        after = _POLL.search(head)
        await asyncio.sleep(int(after[1]) / 1000 if after else 1.0)


async def follow(port: int, video_id: str) -> float:
    """Seconds of a step of the video, between the first that its events tell of and the last."""
    connection = await Connection.open(port)
    connection.send(f"/v1/videos/{video_id}/events")
    heard: list[tuple[float, int]] = []
    while line := await connection.line():
        if line.startswith(b"data: ") and b'"phase":"denoise"' in line and b'"object"' not in line:
            heard.append((time.perf_counter(), int(json.loads(line[6:])["step"])))
    connection.close()
    (begun, first), (ended, last) = heard[0], heard[-1]
    return (ended - begun) / max(1, last - first)


async def made(port: int, steps: int, seed: int, polling: int, following: int) -> tuple[float, list[float]]:
    """Seconds of a step of a video with so many clients beside, and how long each status call took."""
    video_id, latencies = await order(port, steps, seed), list[float]()
    polls = [poll(port, video_id, index / 100, latencies) for index in range(polling)]
    follows = [follow(port, video_id) for _ in range(max(1, following))]
    seconds, *_ = await asyncio.gather(*follows, *polls)
    assert seconds is not None
    return seconds, latencies


async def status_calls(port: int, video_id: str, count: int) -> None:
    """``count`` status calls, some at once."""

    async def several(share: int) -> None:
        connection = await Connection.open(port)
        for _ in range(share):
            await connection.ask(f"/v1/videos/{video_id}")
        connection.close()

    await asyncio.gather(*(several(count // _AT_ONCE) for _ in range(_AT_ONCE)))


def memory_bytes(server: Served) -> int:
    """The server's anonymous memory."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("RssAnon"))


def processor_s(server: Served) -> float:
    """Seconds of a processor that the server has used."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main(arguments: list[str] | None = None) -> int:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--polling", type=int, default=500)
    parser.add_argument("--following", type=int, default=50)
    parser.add_argument("--requests", type=int, default=10_000)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        server = serve(stored(Path(folder) / "home"), WANRUN_MAX_QUEUE="1000")
        try:
            measure(server, options)
        finally:
            server.process.terminate()
            server.process.wait()
    return 0


def measure(server: Served, options: argparse.Namespace) -> None:
    asyncio.run(made(server.port, 4, 0, 0, 0))  # the worker starts, and the prompt is encoded
    ratios, latencies = [], list[float]()
    for index in range(options.rounds):
        alone, _ = asyncio.run(made(server.port, options.steps, index, 0, 0))
        loaded, calls = asyncio.run(
            made(server.port, options.steps, index, options.polling, options.following)
        )
        ratios.append(loaded / alone)
        latencies += calls
        say(
            f"a step takes {1000 * alone:.1f} ms alone, {1000 * loaded:.1f} ms with clients: "
            f"ratio {ratios[-1]:.3f}; {len(calls)} calls"
        )
    say(f"slowdown, median of {options.rounds}: {median(ratios):.3f}")
    shown = [f"p{100 * share:g} {1000 * percentile(latencies, share):.1f} ms" for share in (0.5, 0.9, 0.99)]
    say(f"status call: {', '.join(shown)}")
    video_id = asyncio.run(order(server.port, 1, 0))
    for asked in (options.requests // 10, options.requests - options.requests // 10):
        before, used_s = memory_bytes(server), processor_s(server)
        asyncio.run(status_calls(server.port, video_id, asked))
        grown, used_s = memory_bytes(server) - before, processor_s(server) - used_s
        say(f"memory {before / 1e6:.1f} MB, and {grown / 1e6:+.2f} MB after {asked} requests")
    say(f"a status call takes {1000 * used_s / asked:.2f} ms of the server's processor")


if __name__ == "__main__":
    sys.exit(main())
