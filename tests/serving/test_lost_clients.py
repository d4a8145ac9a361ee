"""Clients that vanish, freeze or do not read: the server ends their connections, whose number is limited."""

import asyncio
import contextlib
import socket
import time

import pytest
from served import address_of, served

from vasa_jax.serving.server import protocol_for, socket_protocol_for

PIECE, PIECES = bytes(2**16), 500
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


async def app(scope, receive, send):
    """Sends much over HTTP and to WebSockets that ask for more; others are heard until they have gone."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(PIECES):
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
            await asyncio.sleep(0)
        return
    await receive()
    await send({"type": "websocket.accept"})
    if scope["path"] == "/quiet":
        await receive()
    elif scope["path"] == "/last":  # a last word that is more than the client reads
        await send({"type": "websocket.send", "bytes": 100 * PIECE})
    else:
        for _ in range(PIECES):
            await send({"type": "websocket.send", "bytes": PIECE})


@pytest.fixture(scope="module")
def server():
    with served(app, http=protocol_for(5, unread=0.6), ws=socket_protocol_for(0.6)) as server:
        yield server


@contextlib.contextmanager
def client(server):
    """A client with little room for what it does not read."""
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.connect(address_of(server))
        yield line


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", UPGRADE, UPGRADE.replace(b"GET /", b"GET /quiet"),
        UPGRADE.replace(b"GET /", b"GET /last"),
    ],
    ids=["answer", "frames", "silence", "last word"],
)  # fmt: skip
def test_a_client_that_freezes_keeps_no_connection(server, request_):
    """It is there, but reads nothing after the head and answers no ping."""
    with client(server) as line:
        line.sendall(request_)
        assert line.recv(12).startswith(b"HTTP/1.1 ")
        end = time.monotonic() + 5
        while server.server_state.connections:
            assert time.monotonic() < end
            time.sleep(0.02)


def test_a_client_that_reads_slowly_is_served(server):
    with client(server) as line:
        line.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            assert line.recv(2**18)
            time.sleep(0.01)
