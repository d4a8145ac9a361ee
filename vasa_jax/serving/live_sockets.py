"""The sockets over which a live session is played.

`/v1/live/ID` gives, in turn, lines of JSON and fragments of MP4: `hello` with the MIME type, the initialisation
segment, then for each hop a line `hop` and its fragment; `end` with a reason at the end. It takes sound of a microphone
as binary messages, 16-bit mono little-endian at the rate of the latest `{"type": "microphone", "rate": 48000}`, and
lines `{"type": "interrupt"}`, `pause`, `resume` and `report` (latency and skew in seconds, as the player measures).

`/v1/live/ID/webrtc` gives `hello` with the ICE servers, takes `{"type": "offer", "sdp": ...}`, gives the `answer`, and
then the same lines; sound and pictures go over WebRTC, the microphone's too.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import numpy as np
from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from vasa_jax.config import StudioConfig
from vasa_jax.errors import InputError
from vasa_jax.files import parse_json
from vasa_jax.serving.fragments import RATE
from vasa_jax.serving.live import MOST_UNSENT, LiveSession
from vasa_jax.serving.players import FragmentPlayer, Player
from vasa_jax.serving.studio import Studio
from vasa_jax.serving.webrtc import LONGEST_OFFER, PATIENCE, WebRtcPlayer, ice_servers

RATES = (8_000, 96_000)  # Hz, of a microphone
LONGEST_WORD = 4096  # characters of a line from a player
GONE = "no such live session; it may have ended"


def sockets_router(studio: Studio) -> APIRouter:
    """Returns the sockets of live avatars."""
    router = APIRouter(prefix="/v1/live", tags=["live"])

    async def accepted(socket: WebSocket, session: str, refusal: str = "") -> "Playing | None":
        found = studio.live.get(session)
        if refusal or found is None:
            await socket.close(1008, refusal or GONE)
            return None
        await socket.accept()
        return Playing(socket, found, studio)

    @router.websocket("/{session}")
    async def play(socket: WebSocket, session: str) -> None:
        if playing := await accepted(socket, session):
            await playing.by_fragments()

    @router.websocket("/{session}/webrtc")
    async def play_by_webrtc(socket: WebSocket, session: str) -> None:
        off = "" if studio.config.studio.webrtc else "WebRTC is off here; play over the other socket"
        if playing := await accepted(socket, session, off):
            await playing.by_webrtc()

    return router


class Playing:
    """One player's socket, from its opening to its end."""

    def __init__(self, socket: WebSocket, session: LiveSession, studio: Studio):
        self._socket, self._session, self._studio = socket, session, studio
        self._loop, self._waiting = asyncio.get_running_loop(), asyncio.Queue()
        self._fault, self._rate = "", RATE
        self._group: anyio.abc.TaskGroup | None = None

    async def by_fragments(self) -> None:
        """Plays over this socket."""
        player = FragmentPlayer(self._session.size, self._send)
        self._studio.metrics.players.labels("websocket").inc()
        self._session.play_to(player)
        await self._run(player, self._give, self._take)

    async def by_webrtc(self) -> None:
        """Takes an offer and plays over WebRTC; this socket carries the lines."""
        settings = self._studio.config.studio
        servers = ice_servers(settings.ice, self._studio.ice_secret)
        player = WebRtcPlayer(self._send, self._session.sound.hear, udp_hosts(settings), servers)

        async def connect() -> None:
            with anyio.move_on_after(PATIENCE):
                await player.connected.wait()
            if not player.connected.is_set():
                raise InputError("webrtc: no connection came about; UDP may be blocked, play over the other socket")
            player.start()
            self._session.play_to(player)
            self._studio.metrics.players.labels("webrtc").inc()
            await player.gone.wait()
            raise InputError("webrtc: the connection was lost; open it anew")

        async def negotiate() -> None:
            await self._socket.send_text(json.dumps({"type": "hello", "servers": servers}))
            answer = await player.answer(await self._offer())
            await self._socket.send_text(json.dumps({"type": "answer", "sdp": answer}))
            for work in (self._give, self._take, connect):
                self._group.start_soon(self._first, work)
            await anyio.sleep_forever()

        try:
            await self._run(player, negotiate)
        finally:
            with anyio.CancelScope(shield=True):
                await player.close()

    async def _run(self, player: Player, *works: Callable[[], Awaitable[None]]) -> None:
        """Does all works until one ends, and then closes the socket."""
        self._player = player
        try:
            async with anyio.create_task_group() as self._group:
                for work in works:
                    self._group.start_soon(self._first, work)
        finally:
            self._session.stop_playing(player)
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            reason = self._fault or self._session.reason
            await self._socket.close(1008 if self._fault else 1000, _close_reason(reason))

    async def _first(self, work: Callable[[], Awaitable[None]]) -> None:
        """Does one work; the others end with it."""
        try:
            await work()
        except InputError as error:
            self._fault = self._fault or str(error)
        except (WebSocketDisconnect, RuntimeError):  # the player has gone
            pass
        self._group.cancel_scope.cancel()

    def _send(self, message: str | bytes) -> bool:
        """Queues a message, from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._waiting.put_nowait, message)
        return self._waiting.qsize() < 2 * MOST_UNSENT

    async def _give(self) -> None:
        session, socket, plays = self._session, self._socket, False
        while not (session.ended.is_set() and self._waiting.empty()):
            message = None
            with anyio.move_on_after(0.25):
                message = await self._waiting.get()
            if message is not None:
                await (socket.send_text(message) if isinstance(message, str) else socket.send_bytes(message))
            if plays and not session.plays_to(self._player) and not session.ended.is_set():
                raise InputError("another player has taken the place of this one; open another session for more")
            plays = plays or session.plays_to(self._player)
            if self._studio.closing.is_set():
                session.close("the server ends")
        await socket.send_text(json.dumps({"type": "end", "reason": session.reason}))

    async def _take(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if data := message.get("bytes"):
                samples = np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.float32) / 32768.0
                self._session.sound.hear(samples, self._rate)
            elif text := message.get("text"):
                self._rate = _obey(text, self._session, self._studio, self._rate)

    async def _offer(self) -> str:
        """Returns the offer, which is the first that a player says."""
        message = {}
        with anyio.move_on_after(PATIENCE):
            message = await self._socket.receive()
        if message.get("type") == "websocket.disconnect":
            raise WebSocketDisconnect
        word = _word(message.get("text") or "{}", 2 * LONGEST_OFFER)
        if word.get("type") != "offer" or not isinstance(word.get("sdp"), str):
            raise InputError('message: no offer came; send {"type": "offer", "sdp": ...} first')
        return word["sdp"]


def _obey(text: str, session: LiveSession, studio: Studio, rate: int) -> int:
    """Does what a player's line says; returns the rate of its microphone. InputError for a line that says nothing."""
    word = _word(text, LONGEST_WORD)
    kind = word.get("type")
    if kind == "microphone":
        rate = word.get("rate")
        if type(rate) is not int or not RATES[0] <= rate <= RATES[1]:
            raise InputError(f"rate: is none; choose {RATES[0]} to {RATES[1]} Hz")
    elif kind == "interrupt":
        session.interrupt()
    elif kind in ("pause", "resume"):
        session.sound.paused = kind == "pause"
    elif kind == "report":
        for name, measure in (("latency", studio.metrics.seen_latency), ("skew", studio.metrics.skew)):
            value = word.get(name)
            if type(value) in (int, float) and abs(value) < 60:  # not NaN, nor an integer too large for a float
                measure.observe(value)
    else:
        raise InputError("message: its type is unknown; send microphone, interrupt, pause, resume or report")
    return rate


def udp_hosts(settings: StudioConfig) -> list[str]:
    """Returns the addresses on which WebRTC's ports are opened, empty for all: by default those of the server."""
    if settings.udp_hosts:
        return list(settings.udp_hosts)
    every = settings.host in ("0.0.0.0", "::", "")
    return [] if every else ["127.0.0.1" if settings.host == "localhost" else settings.host]


def _word(text: str, longest: int) -> dict[str, Any]:
    """Returns a player's line; one that is no object says nothing."""
    if len(text) > longest:
        raise InputError("message: too long; send sound as binary messages")
    word = parse_json(text, "message", "send a JSON object with a type")
    return word if isinstance(word, dict) else {}


def _close_reason(text: str) -> str:
    """Returns what fits into a close frame: 123 bytes of UTF-8 (RFC 6455, 5.5)."""
    return text.encode("utf-8", "replace")[:123].decode("utf-8", "ignore")
