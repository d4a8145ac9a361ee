"""What the page offers who has nothing at hand: the shipped portrait and sentence, and voices for texts."""

import io
import wave
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Body, HTTPException, Response
from fastapi.responses import FileResponse

from vasa_jax.conventions import SAMPLE_RATE
from vasa_jax.errors import InputError
from vasa_jax.generation.job import DEMO
from vasa_jax.serving.videos import faults
from vasa_jax.serving.voices import Voices

LONGEST_TEXT = 2000  # characters


def samples_router(voices: Voices) -> APIRouter:
    """Returns the routes of examples and of spoken texts."""
    router = APIRouter(prefix="/v1", tags=["samples"])

    @router.get("/examples/{name}", response_class=FileResponse)
    def example(name: Literal["portrait", "sound"]) -> FileResponse:
        """Gives the shipped portrait or sentence."""
        return FileResponse(DEMO["image" if name == "portrait" else "audio"])

    @router.post("/speech", response_class=Response, responses=faults(422, 503))
    def speech(
        text: Annotated[str, Body(embed=True, max_length=LONGEST_TEXT)],
        voice: Annotated[str, Body(embed=True, max_length=60, pattern=r"^[A-Za-z0-9+:_-]+$")] = "",
    ) -> Response:
        """Speaks a text: 16 kHz mono WAV. voice: of /v1/about, or eSpeak's, such as fr+f4; empty = the first."""
        if not voices.names:
            raise HTTPException(503, "no voice is installed; pip install espeakng-loader, or send a sound")
        plain = "".join(letter if letter.isprintable() else " " for letter in text)
        try:
            samples = voices.say(plain, voice or voices.names[0])
        except InputError as error:
            raise HTTPException(422, str(error)) from None
        return Response(_wav(samples), media_type="audio/wav")

    return router


def _wav(samples: np.ndarray) -> bytes:
    with io.BytesIO() as file:
        with wave.open(file, "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(2)
            sound.setframerate(SAMPLE_RATE)
            sound.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
        return file.getvalue()
