"""A connection that brings no request is closed; one that waits for its answer is not."""

from __future__ import annotations

import asyncio

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from wanrun.server import protocol


async def slow(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers after longer than headers may take."""
    await asyncio.sleep(0.6)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEADERS_S", 0.2)


async def said(*parts: bytes) -> bytes:
    """All that the server says until it hangs up, to ``parts`` that come one after another."""
    config = uvicorn.Config(
        slow, http=protocol.Protocol, lifespan="off", ws="none", log_config=None, access_log=False, port=0
    )
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0.05)
        answer = await asyncio.wait_for(reader.read(), 30)
        writer.close()
        await writer.wait_closed()
        return answer
    finally:
        await server.shutdown()


@pytest.mark.parametrize("parts", [(), (b"GET / HTTP/1.1\r\n", b"Host: x\r\n", b"X-", b"A: b\r\n")])
def test_headers_that_do_not_come(parts: tuple[bytes, ...]) -> None:
    assert asyncio.run(said(*parts)) == b""


def test_an_answer_takes_its_time() -> None:
    answer = asyncio.run(said(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
    assert answer.endswith(b"ok")
