"""What clients cost a generation: ``python -m tests.benchmarks.server_load [--rounds 3] [--seconds 15]``.

While a video is made, 500 clients come that poll, as often as the server tells them to, and 50 that follow
its events. Printed are the ratio of the times that a step takes with them and before them, in one run; the
latency of a status call on loopback; the processors' share that server and clients take, since these run on
the same machine and slow the video, too; and what the server's memory does over 10,000 requests.
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
from contextlib import closing
from dataclasses import dataclass
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


async def order(port: int, **settings: object) -> str:
    """The id of a video with these settings."""
    connection = await Connection.open(port)
    sent = {"model": "wan-toy", "prompt": "a red ball", "seed": 7} | settings
    _, answer = await connection.ask("/v1/videos", json.dumps(sent).encode())
    connection.close()
    return str(json.loads(answer)["id"])


async def poll(port: int, video_id: str, delay_s: float, latencies: list[float]) -> None:
    """Ask for the video's state until it is over, as often as the official client does."""
    await asyncio.sleep(delay_s)
    connection = await Connection.open(port)
    with closing(connection):
        while True:
            begun = time.perf_counter()
            head, body = await connection.ask(f"/v1/videos/{video_id}")
            latencies.append(time.perf_counter() - begun)
            assert b'"status":"queued"' in body or b'"status":"in_progress"' in body
            after = _POLL.search(head)
            await asyncio.sleep(int(after[1]) / 1000 if after else 1.0)


async def follow(port: int, video_id: str, delay_s: float, heard: list[tuple[float, int]]) -> None:
    """Add when each step was heard of that the video's events tell of, until it is over."""
    await asyncio.sleep(delay_s)
    connection = await Connection.open(port)
    connection.send(f"/v1/videos/{video_id}/events")
    with closing(connection):
        while line := await connection.line():
            if line.startswith(b"data: ") and b'"phase":"denoise"' in line and b'"object"' not in line:
                heard.append((time.perf_counter(), int(json.loads(line[6:])["step"])))


@dataclass(frozen=True, slots=True)
class Window:
    """Some seconds of a video: how long a step took, and the processors' seconds a second."""

    step_s: float
    server: float
    clients: float


async def window(server: Served, heard: list[tuple[float, int]], seconds: float) -> Window:
    first, begun = len(heard), time.perf_counter()
    server_s, clients_s = processor_s(server), time.process_time()
    await asyncio.sleep(seconds)
    elapsed = time.perf_counter() - begun
    (since, step), (until, last) = heard[first], heard[-1]
    return Window(
        (until - since) / (last - step),
        (processor_s(server) - server_s) / elapsed,
        (time.process_time() - clients_s) / elapsed,
    )


async def compared(
    server: Served, options: argparse.Namespace, latencies: list[float]
) -> tuple[Window, Window]:
    """One video before the clients come and while they are there."""
    video_id = await order(
        server.port, num_inference_steps=1000, size=options.size, num_frames=options.frames
    )
    heard = list[tuple[float, int]]()
    clients = [asyncio.create_task(follow(server.port, video_id, 0.0, heard))]
    while len(heard) < 5:
        await asyncio.sleep(0.1)
    alone = await window(server, heard, options.seconds)
    for index in range(options.polling):
        delay_s = options.arrival * index / options.polling
        clients.append(asyncio.create_task(poll(server.port, video_id, delay_s, latencies)))
    for index in range(options.following):
        delay_s = options.arrival * index / options.following
        clients.append(asyncio.create_task(follow(server.port, video_id, delay_s, [])))
    await asyncio.sleep(options.arrival)
    loaded = await window(server, heard, options.seconds)
    assert not any(client.done() for client in clients), "the video was over too soon: ask for more frames"
    for client in clients:
        client.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    connection = await Connection.open(server.port)
    await connection.ask(f"/v1/videos/{video_id}/cancel", b"{}")
    connection.close()
    return alone, loaded


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
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--arrival", type=float, default=10.0, help="seconds within which the clients come")
    parser.add_argument("--size", default="128x128")
    parser.add_argument("--frames", type=int, default=33)
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
    ratios, latencies = [], list[float]()
    for _ in range(options.rounds):
        alone, loaded = asyncio.run(compared(server, options, latencies))
        ratios.append(loaded.step_s / alone.step_s)
        say(
            f"a step takes {1000 * alone.step_s:.1f} ms alone, {1000 * loaded.step_s:.1f} ms with clients: "
            f"ratio {ratios[-1]:.3f}; the server takes {100 * loaded.server:.1f} % of a processor "
            f"(alone {100 * alone.server:.1f} %), the clients {100 * loaded.clients:.1f} %"
        )
    say(f"slowdown, median of {options.rounds}: {median(ratios):.3f}; {len(latencies)} status calls")
    shown = [f"p{100 * share:g} {1000 * percentile(latencies, share):.1f} ms" for share in (0.5, 0.9, 0.99)]
    say(f"status call: {', '.join(shown)}")
    video_id = asyncio.run(order(server.port, num_inference_steps=1))
    for asked in (options.requests // 10, options.requests - options.requests // 10):
        before, used_s = memory_bytes(server), processor_s(server)
        asyncio.run(status_calls(server.port, video_id, asked))
        grown, used_s = memory_bytes(server) - before, processor_s(server) - used_s
        say(f"memory {before / 1e6:.1f} MB, and {grown / 1e6:+.2f} MB after {asked} requests")
    say(f"a status call takes {1000 * used_s / asked:.2f} ms of the server's processor")


if __name__ == "__main__":
    sys.exit(main())
