"""Kills servers and workers at random moments: ``python -m tests.benchmarks.server_kills --count 200``.

Clients order videos, with keys, and ask about them all the while; each round a server or its worker gets
SIGKILL, and a killed server is started again. Counted at the end: no order may be lost or be two jobs, each
video is completed once, and at no moment is one listed as completed whose file is not whole. A job whose
worker is killed three times before it has made a step is given up with that reason, and counted as such.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import check_output
from typing import Any

import httpx

from tests.benchmarks.serving import Served, serve, stored
from wanrun.video.stills import first_frame

_WAITING = 6
_STEPS = (1, 12)
_FRAMES = 5
_GIVEN_UP = "the worker was ended by SIGKILL"
_END_S = 900.0


@dataclass(slots=True)
class Seen:
    """What a client knows: the id of each key, and how each completed video looked when it first saw it."""

    ids: dict[str, str] = field(default_factory=dict)
    completed: dict[str, tuple[int, str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    refused: int = 0


class Client(threading.Thread):
    """Keeps some videos waiting and looks at what is listed, through servers that come and go."""

    def __init__(self, port: int, videos: Path, number: int) -> None:
        super().__init__()
        self._url, self._videos, self._number = f"http://127.0.0.1:{port}", videos, number
        self._random = random.Random(number)
        self.seen, self.ordering, self.stopped = Seen(), True, False

    def run(self) -> None:
        while not self.stopped:
            try:
                with httpx.Client(base_url=self._url, timeout=10) as http:
                    while not self.stopped:
                        self._look(http)
                        time.sleep(self._random.uniform(0.05, 0.2))
            except (httpx.HTTPError, ValueError):
                self.seen.refused += 1
                time.sleep(0.1)

    def _look(self, http: httpx.Client) -> None:
        listed = http.get("/v1/videos", params={"limit": 100}).json()["data"]
        open_ = [each for each in listed if each["status"] in ("queued", "in_progress")]
        for each in listed:
            if each["status"] == "completed":
                self._check(http, each)
        if self.ordering and len(open_) < _WAITING:
            self._order(http)

    def _order(self, http: httpx.Client) -> None:
        """Send an order until it is answered: with its key it is the same one."""
        key = f"{self._number}-{len(self.seen.ids)}"
        sent = {
            "model": "wan-toy",
            "prompt": "a red ball",
            "size": "32x32",
            "num_frames": _FRAMES,
            "num_inference_steps": random.Random(key).randint(*_STEPS),
            "seed": len(self.seen.ids),
        }
        answer = http.post("/v1/videos", json=sent, headers={"Idempotency-Key": key})
        if answer.status_code != 200:
            self._complain(f"order {key} was answered {answer.status_code}: {answer.text[:200]}")
            return
        self.seen.ids[key] = answer.json()["id"]

    def _check(self, http: httpx.Client, video: dict[str, Any]) -> None:
        """A completed video stays as it was, and its file is whole."""
        mark = (video["completed_at"], video["wanrun"]["provenance"])
        known = self.seen.completed.get(video["id"])
        if known is None:
            data = http.get(f"/v1/videos/{video['id']}/content").content
            if len(data) != video["wanrun"]["bytes"] or mark[1] is None:
                self._complain(f"{video['id']} is listed, and {len(data)} bytes of it are there")
            self.seen.completed[video["id"]] = mark
        elif known != mark:
            self._complain(f"{video['id']} was completed twice")

    def _complain(self, problem: str) -> None:
        self.seen.problems.append(problem)


def workers(server: Served) -> list[int]:
    """The server's worker processes."""
    found = check_output(["ps", "-eo", "pid=,ppid=,args="], text=True).splitlines()
    rows = [line.split(None, 2) for line in found]
    return [int(row[0]) for row in rows if int(row[1]) == server.process.pid and "runtime.worker" in row[2]]


def kill(server: Served, rng: random.Random) -> str:
    """Kill the server, or its worker if it has one; which."""
    found = workers(server)
    if found and rng.random() < 0.5:
        try:
            os.kill(rng.choice(found), signal.SIGKILL)
        except ProcessLookupError:
            return "nothing"
        return "worker"
    server.process.kill()
    server.process.wait()
    return "server"


def settle(http: httpx.Client, clients: list[Client]) -> None:
    """Wait until every job is over."""
    until = time.monotonic() + _END_S
    while time.monotonic() < until:
        for status in ("queued", "in_progress"):
            if any(each["status"] == status for each in everything(http)):
                break
        else:
            return
        time.sleep(0.5)
    clients[0].seen.problems.append(f"jobs are still open {_END_S:.0f} s after the last kill")


def everything(http: httpx.Client) -> list[dict[str, Any]]:
    """All videos, page by page."""
    found: list[dict[str, Any]] = []
    while True:
        params: dict[str, str | int] = {"limit": 100, "order": "asc"}
        if found:
            params["after"] = found[-1]["id"]
        page = http.get("/v1/videos", params=params).json()
        found += page["data"]
        if not page["has_more"]:
            return found


def given_up(video: dict[str, Any]) -> bool:
    """Whether its worker was killed too often."""
    return video["status"] == "failed" and str(video["error"]["message"]).startswith(_GIVEN_UP)


def verdict(listed: list[dict[str, Any]], clients: list[Client], videos: Path) -> list[str]:
    """What is wrong in the end."""
    problems = [problem for client in clients for problem in client.seen.problems]
    ids = [each["id"] for each in listed]
    ordered = [video_id for client in clients for video_id in client.seen.ids.values()]
    problems += [f"{video_id} was ordered, and is lost" for video_id in ordered if video_id not in ids]
    # an order whose answer was lost is sent again: each key is one job, whether it was answered or not
    if len(set(ordered)) != len(ordered) or not 0 <= len(ids) - len(ordered) <= len(clients):
        problems.append(f"{len(ordered)} orders became {len(ids)} jobs")
    for each in listed:
        if given_up(each):
            continue
        if each["status"] != "completed":
            problems.append(f"{each['id']} ended as {each['status']}: {each['error']}")
        elif (videos / f"{each['id']}.mp4").stat().st_size != each["wanrun"]["bytes"]:
            problems.append(f"{each['id']} has another size than its file")
        else:
            first_frame(videos / f"{each['id']}.mp4", "png")
    return problems


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def main(arguments: list[str] | None = None) -> int:
    """Kill, and say what became of the jobs; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=200, help="how often something is killed")
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--within", type=float, default=5.0, help="seconds between kills at most")
    parser.add_argument("--seed", type=int, default=6)
    options = parser.parse_args(arguments)
    rng, killed = random.Random(options.seed), {"server": 0, "worker": 0, "nothing": 0}
    with tempfile.TemporaryDirectory() as folder:
        home = stored(Path(folder) / "home")
        server = serve(home)
        clients = [Client(server.port, home / "videos", number) for number in range(options.clients)]
        for client in clients:
            client.start()
        begun = time.monotonic()
        while killed["server"] + killed["worker"] < options.count:
            time.sleep(rng.uniform(0, options.within))
            what = kill(server, rng)
            killed[what] += 1
            if what == "server":
                server = serve(home, server.port)
        for client in clients:
            client.ordering = False
        with httpx.Client(base_url=server.url, timeout=30) as http:
            settle(http, clients)
            for client in clients:
                client.stopped = True
                client.join()
            listed = everything(http)
            problems = verdict(listed, clients, home / "videos")
        server.process.terminate()
        server.process.wait()
    took_s = time.monotonic() - begun
    say(f"{killed['server']} servers and {killed['worker']} workers killed in {took_s:.0f} s")
    say(f"{len(listed)} videos, {sum(map(given_up, listed))} of them given up, {len(problems)} problems")
    for problem in problems:
        say(f"  {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
