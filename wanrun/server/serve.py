"""Runs the application on an address until the process is told to end."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import signal
import socket
from collections.abc import Callable

import uvicorn

from wanrun import settings
from wanrun.errors import InvalidRequest
from wanrun.server.app import create_app
from wanrun.server.guard import Policy
from wanrun.server.protocol import HEADERS_S, Protocol
from wanrun.server.service import Service

_BACKLOG = 1024
_HEADER_BYTES = 64 << 10
#: What a client that does not listen is given to take its answer when the server ends.
_FAREWELL_S = 5


class _Server(uvicorn.Server):
    """Ends the streams before it waits for the connections that they keep open."""

    def __init__(self, config: uvicorn.Config, farewell: Callable[[], object]) -> None:
        super().__init__(config)
        self._farewell = farewell

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await asyncio.to_thread(self._farewell)
        await super().shutdown(sockets)


def open_policy() -> Policy:
    """The guard's policy that the settings describe.

    Raises InvalidRequest without a key on an address that other machines reach.
    """
    host, _ = settings.address()
    policy = Policy(
        settings.get("api_key"),
        settings.words("hosts"),
        settings.words("origins"),
        settings.number("max_rate"),
    )
    if not policy.key and not _is_loopback(host):
        raise InvalidRequest(
            f"other machines can reach {host}: set WANRUN_API_KEY, the key that they must send, or listen on "
            "127.0.0.1"
        )
    return policy


def serve(service: Service, policy: Policy, address: tuple[str, int], ready: Callable[[str], object]) -> None:
    """Serve on ``address`` until SIGINT or SIGTERM; ``ready`` is told the URL once requests are taken.

    Port 0 takes any. Raises InvalidRequest when the address cannot be had.
    """
    listening = _listen(*address)
    config = uvicorn.Config(
        create_app(service, policy),
        http=Protocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=int(HEADERS_S),
        timeout_graceful_shutdown=_FAREWELL_S,
        h11_max_incomplete_event_size=_HEADER_BYTES,
    )
    # uvicorn raises the signal again once it has ended, which is no reason to die of it
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    with listening:
        host, port = listening.getsockname()[:2]
        ready(f"http://{f'[{host}]' if ':' in host else host}:{port}")
        _Server(config, service.scheduler.events.close).run([listening])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(place)
            listening.listen(_BACKLOG)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        reason = (
            "another program, perhaps another 'wanrun serve', has it"
            if error.errno == errno.EADDRINUSE
            else str(error.strerror or error)
        )
        raise InvalidRequest(
            f"cannot listen on {host}:{port}: {reason}; set WANRUN_HOST to another address"
        ) from error
    return listening
