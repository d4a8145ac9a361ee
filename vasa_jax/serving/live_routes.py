"""/v1/live: open an avatar, play it over a WebSocket, let it speak.

The WebSocket gives, in turn, lines of JSON and fragments of MP4: `hello` with the MIME type, the initialisation
segment, then for each hop a line `hop` and its fragment; `end` with a reason at the end. It takes sound of a microphone
as binary messages, 16-bit mono little-endian at the rate of the latest `{"type": "microphone", "rate": 48000}`, and
lines `{"type": "interrupt"}`, `pause`, `resume` and `report` (latency and skew in seconds, as the player measures).
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import anyio
import numpy as np
from fastapi import APIRouter, File, HTTPException, UploadFile, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, Field

from vasa_jax.data.audio_files import read_audio
from vasa_jax.data.image_files import parse_colour
from vasa_jax.errors import InputError
from vasa_jax.files import parse_json
from vasa_jax.generation.animator import Avatar
from vasa_jax.generation.control_track import checked_controls
from vasa_jax.generation.controls import Controls
from vasa_jax.serving.fragments import RATE
from vasa_jax.serving.live import MOST_UNSENT, Busy, LiveSession
from vasa_jax.serving.parts import Background, ControlsText, Crop
from vasa_jax.serving.studio import Studio
from vasa_jax.serving.videos import PORTRAIT, SOUND, faults, refusals, save_upload

RATES = (8_000, 96_000)  # Hz, of a microphone
LONGEST_WORD = 4096  # characters of a line from a player


class LiveOpened(BaseModel):
    """A live session that waits for its player."""

    session: str
    socket: str = Field(description="path of its WebSocket")
    hop: float = Field(description="seconds that are made at once")
    rate: float = Field(description="frames drawn per second, as far as this machine is known")


class Queued(BaseModel):
    """Sound that waits."""

    seconds: float = Field(description="of the sound that was added")
    waiting: float = Field(description="seconds that wait in all")


def live_router(studio: Studio) -> APIRouter:
    """Returns the routes of live avatars."""
    router = APIRouter(prefix="/v1/live", tags=["live"])
    live = studio.live

    def known(session: str) -> LiveSession:
        found = live.get(session)
        if found is None:
            raise HTTPException(404, "no such live session; it may have ended")
        return found

    def avatar_of(upload: UploadFile, folder: Path, crop: str, background: str) -> Callable[[], Avatar]:
        parse_colour(background, "background")
        save_upload(upload, folder / PORTRAIT)

        def prepared() -> Avatar:
            found = studio.generator.read_portrait(folder / PORTRAIT, crop, background, studio.config.limits)
            return studio.generator.prepare(found.pixels)

        return prepared

    @router.post("", status_code=201, responses=faults(413, 422, 503))
    def open_session(
        portrait: Annotated[UploadFile, File(description="a picture, or a video")],
        controls: ControlsText = "{}",
        crop: Crop = "",
        background: Background = "",
    ) -> LiveOpened:
        """Opens a session, which ends when nobody plays it; 503 when all are in use. Steps and hop are the server's."""
        if studio.closing.is_set():
            raise HTTPException(503, "the server ends; ask again in a minute", {"Retry-After": "60"})
        with studio.store.temporary_folder() as folder, refusals(folder):
            asked = _controls(controls)
            try:
                session = live.open(avatar_of(portrait, folder, crop, background), asked)
            except Busy:
                most = studio.config.studio.live_sessions
                line = f"busy: all {most} live sessions are in use; try again when one has ended"
                raise HTTPException(503, line, {"Retry-After": "30"}) from None
        point = session.point
        return LiveOpened(
            session=session.id, socket=f"/v1/live/{session.id}", hop=point.seconds, rate=round(point.rate, 2)
        )

    @router.put("/{session}/portrait", status_code=204, responses=faults(404, 413, 422))
    def change_portrait(
        session: str,
        portrait: Annotated[UploadFile, File()],
        crop: Crop = "",
        background: Background = "",
    ) -> None:
        """Shows another portrait from the next hop on."""
        found = known(session)
        with studio.store.temporary_folder() as folder, refusals(folder):
            found.change_avatar(avatar_of(portrait, folder, crop, background)())

    @router.put("/{session}/controls", status_code=204, responses=faults(404, 422))
    def change_controls(session: str, controls: ControlsText) -> None:
        """Asks something else of the motion from the next hop on."""
        found = known(session)
        with refusals(Path()):
            live.change_controls(found, _controls(controls))

    @router.post("/{session}/sound", status_code=202, responses=faults(404, 413, 422, 429))
    def speak(session: str, sound: Annotated[UploadFile, File(description="a sound of any format")]) -> Queued:
        """Adds a sound to what waits to be spoken: of a text-to-speech program, piece by piece."""
        found = known(session)
        with studio.store.temporary_folder() as folder, refusals(folder):
            save_upload(sound, folder / SOUND)
            samples = _mono(folder / SOUND, studio)
        if not found.sound.say(samples):
            raise HTTPException(429, "too much sound waits; ask again when some of it is spoken", {"Retry-After": "5"})
        return Queued(seconds=len(samples) / RATE, waiting=found.sound.waiting / RATE)

    @router.post("/{session}/interrupt", status_code=204, responses=faults(404))
    def interrupt(session: str) -> None:
        """Drops the sound that waits; the mouth closes."""
        known(session).interrupt()

    @router.delete("/{session}", status_code=204, responses=faults(404))
    def close(session: str) -> None:
        """Ends a session."""
        known(session).close()

    @router.websocket("/{session}")
    async def play(socket: WebSocket, session: str) -> None:
        found = live.get(session)
        if found is None:
            await socket.close(1008, "no such live session; it may have ended")
            return
        await socket.accept()
        await _play(socket, found, studio)

    return router


async def _play(socket: WebSocket, session: LiveSession, studio: Studio) -> None:
    loop, waiting = asyncio.get_running_loop(), asyncio.Queue()

    def send(message: str | bytes) -> bool:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(waiting.put_nowait, message)
        return waiting.qsize() < 2 * MOST_UNSENT

    async def give() -> None:
        while not (session.ended.is_set() and waiting.empty()):
            message = None
            with anyio.move_on_after(0.25):
                message = await waiting.get()
            if message is not None:
                await (socket.send_text(message) if isinstance(message, str) else socket.send_bytes(message))
            if studio.closing.is_set():
                session.close("the server ends")
        await socket.send_text(json.dumps({"type": "end", "reason": session.reason}))

    async def take() -> None:
        rate = RATE
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if data := message.get("bytes"):
                samples = np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.float32) / 32768.0
                session.sound.hear(samples, rate)
            elif text := message.get("text"):
                rate = _obey(text, session, studio, rate)

    fault = ""

    async def first(work: Callable[[], Awaitable[None]]) -> None:
        """Does one of the two; the other ends with it."""
        nonlocal fault
        try:
            await work()
        except InputError as error:
            fault = str(error)
        except (WebSocketDisconnect, RuntimeError):  # the player has gone
            pass
        group.cancel_scope.cancel()

    session.play_to(send)
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(first, give)
            group.start_soon(first, take)
    finally:
        session.stop_playing(send)
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):
        await socket.close(1008 if fault else 1000, _close_reason(fault or session.reason))


def _close_reason(text: str) -> str:
    """Returns what fits into a close frame: 123 bytes of UTF-8 (RFC 6455, 5.5)."""
    return text.encode("utf-8", "replace")[:123].decode("utf-8", "ignore")


def _obey(text: str, session: LiveSession, studio: Studio, rate: int) -> int:
    """Does what a player's line says; returns the rate of its microphone. InputError for a line that says nothing."""
    if len(text) > LONGEST_WORD:
        raise InputError("message: too long; send sound as binary messages")
    word = parse_json(text, "message", "send a JSON object with a type")
    kind = word.get("type") if isinstance(word, dict) else None
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


def _controls(text: str) -> Controls:
    asked: dict[str, Any] = checked_controls(parse_json(text, "controls", "give a JSON object"), "controls")
    return Controls(**asked)


def _mono(path: Path, studio: Studio) -> np.ndarray:
    """Returns a sound file as float32 (N,) at `RATE`."""
    import soxr

    sound = read_audio(path, studio.config.limits)
    samples = np.concatenate([block.mean(1, dtype=np.float32) for block in sound.blocks()])
    return soxr.resample(samples, sound.rate, RATE) if sound.rate != RATE else samples
