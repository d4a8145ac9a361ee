"""/v1/live: open an avatar, change it, let it speak. It is played over a socket (`live_sockets.py`)."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, File, HTTPException, UploadFile
from pydantic import BaseModel, Field

from vasa_jax.data.audio_files import read_audio
from vasa_jax.data.image_files import parse_colour
from vasa_jax.files import parse_json
from vasa_jax.generation.animator import Avatar
from vasa_jax.generation.control_track import checked_controls
from vasa_jax.generation.controls import Controls
from vasa_jax.serving.fragments import RATE
from vasa_jax.serving.live import Busy, LiveSession
from vasa_jax.serving.parts import Background, ControlsText, Crop
from vasa_jax.serving.studio import Studio
from vasa_jax.serving.videos import PORTRAIT, SOUND, faults, refusals, save_upload


class LiveOpened(BaseModel):
    """A live session that waits for its player."""

    session: str
    socket: str = Field(description="path of its WebSocket; with /webrtc the one that takes an offer, where that is on")
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
            found = studio.portrait(folder / PORTRAIT, crop, background)
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
                line = f"busy: all {live.most} live sessions are in use; try again when one has ended"
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

    return router


def _controls(text: str) -> Controls:
    asked: dict[str, Any] = checked_controls(parse_json(text, "controls", "give a JSON object"), "controls")
    return Controls(**asked)


def _mono(path: Path, studio: Studio) -> np.ndarray:
    """Returns a sound file as float32 (N,) at `RATE`."""
    import soxr

    sound = read_audio(path, studio.config.limits)
    samples = np.concatenate([block.mean(1, dtype=np.float32) for block in sound.blocks()])
    return soxr.resample(samples, sound.rate, RATE) if sound.rate != RATE else samples
