"""The web server: uvicorn, made impatient with clients that send slowly, do not read or are gone, and quick to end."""

import asyncio
import logging
import signal
import socket
from types import FrameType

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from vasa_jax.config import StudioConfig
from vasa_jax.errors import say
from vasa_jax.serving.first_page import open_page
from vasa_jax.serving.loopback import is_loopback
from vasa_jax.serving.studio import Studio

LARGEST_HEAD = 16 * 2**10  # bytes of a request's line and headers
LARGEST_MESSAGE = 2**20  # bytes of a WebSocket message
GRACE = 5  # seconds that requests have to end
UNREAD = 120.0  # seconds in which a client must read some of an answer: a paused video is fetched again where it was
LOST = 15.0  # seconds after which a WebSocket whose client neither answers nor reads is ended
LINGER = 5.0  # seconds in which what was sent last must be read


class _Read:
    """Of a protocol: ends connections whose client stops reading. Closing them would wait for it, and so for ever."""

    unread = UNREAD
    _stalled: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(self.unread, self.transport.abort)

    def resume_writing(self) -> None:
        self._moves()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._moves()
        super().connection_lost(exc)

    def _moves(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None


def socket_protocol_for(seconds: float) -> type[WebSocketsSansIOProtocol]:
    """Returns a protocol of WebSockets that ends those whose client is gone, or does not read, for `seconds`."""

    class Watchful(_Read, WebSocketsSansIOProtocol):
        unread = seconds

        def __init__(self, *given, **named) -> None:
            super().__init__(*given, **named)
            self.ping_interval = self.ping_timeout = seconds / 2

        def keepalive_timeout(self) -> None:
            self.transport.abort()

        def on_task_complete(self, task: asyncio.Task[None]) -> None:
            super().on_task_complete(task)
            self.loop.call_later(min(LINGER, seconds), self.transport.abort)

    return Watchful


def protocol_for(seconds: float, unread: float = UNREAD) -> type[H11Protocol]:
    """Returns a protocol that ends connections whose request's head takes longer than `seconds`.

    unread: seconds in which some of an answer must be read.
    """
    wait = unread

    class Impatient(_Read, H11Protocol):
        unread = wait
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport) -> None:
            super().connection_made(transport)
            self._timer = self.loop.call_later(seconds, self._too_slow)

        def connection_lost(self, exc) -> None:
            self._rest()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self._timer is None and self._between_requests():
                self._timer = self.loop.call_later(seconds, self._too_slow)
            super().data_received(data)
            if not self._between_requests():
                self._rest()

        def send_400_response(self, msg: str) -> None:
            # What follows a request that was refused may be nonsense too: its answer has been given.
            if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                super().send_400_response(msg)
            else:
                self.transport.close()

        def _between_requests(self) -> bool:
            return self.conn.their_state is h11.IDLE

        def _rest(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _too_slow(self) -> None:
            self._timer = None
            if not self.transport.is_closing() and self._between_requests():
                self.transport.close()

    return Impatient


class StudioServer(uvicorn.Server):
    """Tells the studio that it ends as soon as a signal says so: streams of events and live sessions end too."""

    def __init__(self, app: ASGIApp, studio: Studio):
        """Its log has no line for every form that is none, which any client can send in thousands."""
        logging.getLogger("python_multipart").setLevel(logging.ERROR)
        settings: StudioConfig = studio.config.studio
        super().__init__(
            uvicorn.Config(
                app, host=settings.host, port=settings.port, http=protocol_for(settings.head_seconds),
                ws=socket_protocol_for(LOST), ws_max_size=LARGEST_MESSAGE, ws_per_message_deflate=False,
                limit_concurrency=settings.connections, h11_max_incomplete_event_size=LARGEST_HEAD,
                timeout_graceful_shutdown=GRACE, access_log=False, log_level="warning", server_header=False,
                proxy_headers=False, lifespan="on",
            )
        )  # fmt: skip
        self._studio = studio

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens, says where, and opens the page for who sits here."""
        await super().startup(sockets)
        if self.started and self.servers:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            address = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
            say(f"open {address} (Ctrl-C ends it)")
            if self._studio.config.studio.open_page and is_loopback(host):
                open_page(address)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ends the server; at a second Ctrl-C at once."""
        self._studio.closing.set()
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True
