"""The web server against clients that send slowly, too much or nonsense: raw sockets to a server in a thread."""

import contextlib
import socket
import time

import pytest
from served import address_of, served

from vasa_jax.serving.guard import Guard
from vasa_jax.serving.server import LARGEST_HEAD, protocol_for

HEAD = b"POST /v1/videos HTTP/1.1\r\nHost: 127.0.0.1\r\n"


async def answer(scope, receive, send):
    assert scope["type"] == "http"
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture(scope="module")
def port():
    from starlette.middleware.exceptions import ExceptionMiddleware

    app = Guard(ExceptionMiddleware(answer), key="", names=("127.0.0.1",), largest=1000, seconds=0.5)
    limits = {"limit_concurrency": 8, "h11_max_incomplete_event_size": LARGEST_HEAD}
    with served(app, http=protocol_for(0.4), ws="none", **limits) as server:
        yield address_of(server)[1]


@contextlib.contextmanager
def connected(port):
    with socket.create_connection(("127.0.0.1", port), timeout=5) as line:
        yield line


def rest_of(line) -> bytes:
    text = b""
    with contextlib.suppress(ConnectionError):
        while piece := line.recv(65536):
            text += piece
    return text


def status(port, request: bytes) -> bytes:
    with connected(port) as line:
        line.sendall(request)
        return line.recv(65536).split(b"\r\n")[0]


def test_a_sound_request(port):
    assert status(port, HEAD + b"Content-Length: 2\r\n\r\nhi") == b"HTTP/1.1 200 OK"


@pytest.mark.parametrize("rest", [b"\x00\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", HEAD + b"X\r\n\r\n", b"\xff" * 20_000])
@pytest.mark.parametrize(
    "first",
    [
        b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", HEAD + b"Content-Length: 9999999\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", HEAD + b"Content-Length: 0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n7d0\r\n" + b"a" * 2000, HEAD + b"Content-Length: 0\r\n\r\n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("pause", [0.0, 0.05])
def test_nonsense_after_a_request_is_no_fault_of_the_server(port, caplog, first, rest, pause):
    """It is answered or the line is closed; the event loop sees no exception."""
    with connected(port) as line, contextlib.suppress(ConnectionError):
        line.sendall(first)
        time.sleep(pause)
        line.sendall(rest)
        rest_of(line)
    assert not [record for record in caplog.records if record.exc_info or "Fatal" in record.message]


def test_silent_and_dripping_heads_are_ended(port):
    start = time.monotonic()
    with connected(port) as silent, connected(port) as dripping:
        dripping.sendall(HEAD)
        with contextlib.suppress(ConnectionError):
            for letter in b"X-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa":
                dripping.sendall(bytes([letter]))
                time.sleep(0.05)
        assert rest_of(silent) == b"" and b"200" not in rest_of(dripping)
    assert 0.3 < time.monotonic() - start < 4
    with connected(port) as line:  # a second request on one line is timed too
        line.sendall(HEAD + b"Content-Length: 0\r\n\r\n")
        assert b"200 OK" in line.recv(65536)
        line.sendall(HEAD)
        start = time.monotonic()
        assert b"200" not in rest_of(line) and time.monotonic() - start < 4


def test_a_slow_body_is_ended(port):
    with connected(port) as line:
        line.sendall(HEAD + b"Content-Length: 900\r\n\r\nhello")
        assert line.recv(65536).startswith(b"HTTP/1.1 408")


def test_a_body_that_takes_its_time_in_bounds_is_read(port):
    with connected(port) as line:
        line.sendall(HEAD + b"Content-Length: 4\r\n\r\nab")
        time.sleep(0.2)
        line.sendall(b"cd")
        assert line.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (HEAD + b"X: " + b"a" * (2 * LARGEST_HEAD), b"400"),
        (HEAD + b"".join(b"X%d: a\r\n" % i for i in range(4000)), b"400"),
        (b"GET /" + b"a" * (2 * LARGEST_HEAD), b"400"),
        (b"\x16\x03\x01\x02\x00nonsense\r\n\r\n", b"400"),
        (HEAD + b"Content-Length: 99999999999\r\n\r\n", b"413"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n7d0\r\n" + b"a" * 2000 + b"\r\n0\r\n\r\n", b"413"),
        (HEAD + b"Host: evil.example\r\n\r\n", b"4"),
        (HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc", b"400"),
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", b"421"),
    ],
)
def test_too_much_and_nonsense(port, request_, code):
    assert status(port, request_).split()[1].startswith(code)


def test_too_many_connections_are_told(port):
    with contextlib.ExitStack() as stack:
        for _ in range(12):
            stack.enter_context(connected(port))
        time.sleep(0.05)
        assert status(port, HEAD + b"Content-Length: 0\r\n\r\n").endswith(b"503 Service Unavailable")
